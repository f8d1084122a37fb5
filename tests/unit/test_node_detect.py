"""Detection of the hardware, on a driver that is made up where there is none, and the slots on it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from workers.node.detect import Device, Hardware, detect
from workers.node.slots import Slots

NO_DRIVER = pynvml.NVMLError(12)
GIB = 2**30


class FakeDriver:
    """NVML with a number of GPUs."""

    NVMLError = pynvml.NVMLError

    def __init__(self, uuids: list[str], init_error: Exception | None = None) -> None:
        self.uuids = uuids
        self.init_error = init_error
        self.open = False

    def nvmlInit(self) -> None:
        if self.init_error:
            raise self.init_error
        self.open = True

    def nvmlShutdown(self) -> None:
        self.open = False

    def nvmlDeviceGetCount(self) -> int:
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index >= len(self.uuids):
            raise self.NVMLError(2)
        return self.uuids[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid not in self.uuids:
            raise self.NVMLError(6)
        return uuid

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetName(self, handle: str) -> str:
        return "NVIDIA GeForce RTX 4090"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return SimpleNamespace(total=24564 * 2**20)

    def nvmlSystemGetDriverVersion(self) -> str:
        return "550.54.15"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
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
    ],
)
def test_the_agents_own_restriction_holds(driver: FakeDriver, allowed: str, uuids: list[str]) -> None:
    assert [device.uuid for device in detect({"CUDA_VISIBLE_DEVICES": allowed}).devices] == uuids


def test_without_a_driver_it_is_a_cpu_node(driver: FakeDriver) -> None:
    driver.init_error = NO_DRIVER
    hardware = detect({})
    assert hardware.devices == ()
    assert hardware.cores >= 1
    assert hardware.metadata() == {"device": "cpu", "cores": hardware.cores}
    assert hardware.default_slots >= 1


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
