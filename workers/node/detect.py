"""What this machine has: its GPUs by NVML, or else its processor cores."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psutil
import pynvml

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """One GPU, or one MIG slice of it."""

    uuid: str
    model: str
    memory: int  # bytes


@dataclass(frozen=True)
class Hardware:
    """What work can run on; without devices it runs on the cores."""

    devices: tuple[Device, ...]
    cores: int
    driver: str = ""
    cuda: str = ""

    @property
    def default_slots(self) -> int:
        """One per GPU; without one, half the cores."""
        return len(self.devices) or max(1, self.cores // 2)

    def metadata(self) -> dict[str, object]:
        """The `metadata` of the registration (§2.4)."""
        if not self.devices:
            return {"device": "cpu", "cores": self.cores}
        first = self.devices[0]
        return {
            "gpuModel": first.model,
            "memory": f"{round(first.memory / 2**30)}GB",
            "cudaVersion": self.cuda,
            "driverVersion": self.driver,
            "gpuCount": len(self.devices),
        }


def detect(environ: Mapping[str, str]) -> Hardware:
    """Ask NVML; a machine without a driver, or whose CUDA_VISIBLE_DEVICES is empty, is a CPU node."""
    cores = _cores()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.info("no GPU here (%s): %d cores", error, cores)
        return Hardware((), cores)
    try:
        devices = tuple(_visible(environ.get("CUDA_VISIBLE_DEVICES")))
        return Hardware(devices, cores, pynvml.nvmlSystemGetDriverVersion(), _cuda_version())
    finally:
        pynvml.nvmlShutdown()


def _visible(allowed: str | None) -> Iterator[Device]:
    """The devices that the agent itself may use: NVML ignores CUDA_VISIBLE_DEVICES, so it is honoured here."""
    if allowed is None:
        allowed = ",".join(str(index) for index in range(pynvml.nvmlDeviceGetCount()))
    for name in filter(None, map(str.strip, allowed.split(","))):
        try:
            yield _device(name)
        except pynvml.NVMLError as error:
            log.warning("device %s is left out, and those after it, as CUDA does: %s", name, error)
            return


def _device(name: str) -> Device:
    # By UUID from here on: an index means another device to NVML (bus order) than to CUDA (fastest first).
    by_index = name.isdigit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(int(name)) if by_index else pynvml.nvmlDeviceGetHandleByUUID(name)
    return Device(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        model=pynvml.nvmlDeviceGetName(handle),
        memory=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
    )


def _cuda_version() -> str:
    version = int(pynvml.nvmlSystemGetCudaDriverVersion())  # 12040 is 12.4
    return f"{version // 1000}.{version % 1000 // 10}"


def _cores() -> int:
    """The cores that this process may use, which a container may have fewer of than the machine."""
    try:
        return len(psutil.Process().cpu_affinity() or ()) or 1
    except AttributeError:  # macOS has no affinity
        return os.cpu_count() or 1
