"""Detection of the hardware, on a driver that is made up where there is none, and the slots on it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from workers.node.detect import Device, Hardware, detect
from workers.node.slots import Slots

GIB = 2**30


class FakeDriver:
    """NVML with a number of GPUs; those in `mig` are in MIG mode and have these slices, None being an empty place.

    A call named in `errors` raises that error.
    """

    NVMLError = pynvml.NVMLError
    NVML_DEVICE_MIG_ENABLE = pynvml.NVML_DEVICE_MIG_ENABLE

    def __init__(self, uuids: list[str]) -> None:
        self.uuids = uuids
        self.mig: dict[str, list[str | None]] = {}
        self.errors: dict[str, int] = {}
        self.open = False

    def _may_fail(self, call: str) -> None:
        if call in self.errors:
            raise self.NVMLError(self.errors[call])

    def nvmlInit(self) -> None:
        self._may_fail("nvmlInit")
        self.open = True

    def nvmlShutdown(self) -> None:
        self.open = False

    def nvmlDeviceGetCount(self) -> int:
        self._may_fail("nvmlDeviceGetCount")
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        self._may_fail(f"nvmlDeviceGetHandleByIndex({index})")
        return self.uuids[index]

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:
        if handle not in self.mig:
            raise self.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [pynvml.NVML_DEVICE_MIG_ENABLE, pynvml.NVML_DEVICE_MIG_ENABLE]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:
        return len(self.mig[handle])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, index: int) -> str:
        found = self.mig[handle][index]
        if found is None:
            raise self.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return found

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetName(self, handle: str) -> str:
        return "NVIDIA A100-SXM4-40GB MIG 1g.5gb" if handle.startswith("MIG-") else "NVIDIA GeForce RTX 4090"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        self._may_fail("nvmlDeviceGetMemoryInfo")
        return SimpleNamespace(total=4864 * 2**20 if handle.startswith("MIG-") else 24564 * 2**20)

    def nvmlSystemGetDriverVersion(self) -> str:
        self._may_fail("nvmlSystemGetDriverVersion")
        return "550.54.15"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        self._may_fail("nvmlSystemGetCudaDriverVersion")
        return 12040


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    fake = FakeDriver(["GPU-a", "GPU-b", "GPU-c"])
    monkeypatch.setattr("workers.node.detect.pynvml", fake)
    return fake


def test_gpus_are_found(driver: FakeDriver) -> None:
    hardware = detect({})
    assert [device.uuid for device in hardware.devices] == ["GPU-a", "GPU-b", "GPU-c"]
    assert hardware.default_slots == 3
    assert hardware.metadata() == {
        "gpuModel": "NVIDIA GeForce RTX 4090",
        "memory": "24GB",
        "cudaVersion": "12.4",
        "driverVersion": "550.54.15",
        "gpuCount": 3,
    }
    assert not driver.open


@pytest.mark.parametrize(
    ("allowed", "uuids"),
    [
        ("1", ["GPU-b"]),
        ("2,0", ["GPU-c", "GPU-a"]),
        ("GPU-b,GPU-a", ["GPU-b", "GPU-a"]),
        ("", []),
        ("0,7,1", ["GPU-a"]),  # CUDA too stops at the first that is not there
        ("-1", []),
        ("GPU-c", ["GPU-c"]),
        ("GPU-x,GPU-a", []),
    ],
)
def test_the_agents_own_restriction_holds(driver: FakeDriver, allowed: str, uuids: list[str]) -> None:
    assert [device.uuid for device in detect({"CUDA_VISIBLE_DEVICES": allowed}).devices] == uuids


@pytest.mark.parametrize(
    "error",
    [
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    ],
)
def test_without_library_or_driver_it_is_a_cpu_node(driver: FakeDriver, error: int) -> None:
    driver.errors["nvmlInit"] = error
    assert_cpu_node(detect({}))


def test_without_a_device_it_is_a_cpu_node(driver: FakeDriver) -> None:
    driver.uuids = []
    assert_cpu_node(detect({}))
    assert_cpu_node(detect({"CUDA_VISIBLE_DEVICES": "0"}))
    driver.errors["nvmlDeviceGetCount"] = pynvml.NVML_ERROR_UNKNOWN
    assert_cpu_node(detect({}))


def assert_cpu_node(hardware: Hardware) -> None:
    assert hardware.devices == ()
    assert hardware.cores >= 1
    assert hardware.metadata() == {"device": "cpu", "cores": hardware.cores}
    assert hardware.default_slots == max(1, hardware.cores // 2)
    assert [slot.device for slot in Slots(hardware.default_slots, hardware.devices).all] == [
        ""
    ] * hardware.default_slots


def test_a_gpu_that_does_not_answer_is_left_out(driver: FakeDriver) -> None:
    driver.errors["nvmlDeviceGetHandleByIndex(1)"] = pynvml.NVML_ERROR_GPU_IS_LOST
    assert uuids(detect({})) == ["GPU-a", "GPU-c"]
    assert uuids(detect({"CUDA_VISIBLE_DEVICES": "2,1,0"})) == ["GPU-c"]


def test_what_the_driver_does_not_report_is_left_out(driver: FakeDriver) -> None:
    driver.errors |= dict.fromkeys(
        ("nvmlDeviceGetMemoryInfo", "nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion"),
        pynvml.NVML_ERROR_NOT_SUPPORTED,
    )
    assert detect({}).metadata() == {"gpuModel": "NVIDIA GeForce RTX 4090", "gpuCount": 3}


def test_mig_slices_are_devices_with_a_slot_each(driver: FakeDriver) -> None:
    driver.mig = {"GPU-a": ["MIG-1", None, "MIG-2"], "GPU-b": [None, None]}
    hardware = detect({})
    assert uuids(hardware) == ["MIG-1", "MIG-2", "GPU-c"]
    assert hardware.default_slots == 3
    assert [slot.device for slot in Slots(hardware.default_slots, hardware.devices).all] == ["MIG-1", "MIG-2", "GPU-c"]
    metadata = hardware.metadata()
    assert (metadata["gpuModel"], metadata["memory"]) == ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "5GB")


@pytest.mark.parametrize(
    ("allowed", "found"),
    [
        ("0", ["MIG-1", "MIG-2"]),
        ("GPU-a", ["MIG-1", "MIG-2"]),
        ("MIG-2", ["MIG-2"]),
        ("MIG-2,GPU-c", ["MIG-2", "GPU-c"]),
        ("1,GPU-c", ["GPU-c"]),  # in MIG mode, without a slice
        ("MIG-3,GPU-c", []),
    ],
)
def test_restricted_to_slices(driver: FakeDriver, allowed: str, found: list[str]) -> None:
    driver.mig = {"GPU-a": ["MIG-1", None, "MIG-2"], "GPU-b": [None]}
    assert uuids(detect({"CUDA_VISIBLE_DEVICES": allowed})) == found


def uuids(hardware: Hardware) -> list[str]:
    return [device.uuid for device in hardware.devices]


@pytest.mark.parametrize(("cores", "slots"), [(1, 1), (2, 1), (16, 8)])
def test_slots_of_a_cpu_node(cores: int, slots: int) -> None:
    assert Hardware((), cores).default_slots == slots


def test_slots_share_devices_evenly() -> None:
    slots = Slots(4, (Device("GPU-a", "x", GIB), Device("GPU-b", "x", GIB)))
    taken = [slots.take() for _ in range(2)]
    assert {slot.device for slot in taken if slot} == {"GPU-a", "GPU-b"}
    on_b = next(slot for slot in taken if slot and slot.device == "GPU-b")
    slots.release(on_b)
    again = slots.take()
    assert again is not None
    assert again.device == "GPU-b"  # GPU-a still works


def test_no_more_slots_than_there_are() -> None:
    slots = Slots(1, ())
    slot = slots.take()
    assert slot is not None
    assert slot.device == ""
    assert slots.take() is None
    slots.release(slot)
    assert slots.any_free
