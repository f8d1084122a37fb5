"""The hardware of this machine: its GPUs by NVML, or without any its processor cores."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil
import pynvml

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Device:
    """One GPU, or one MIG slice of it."""

    uuid: str
    model: str
    memory: int  # bytes; 0: not known


@dataclass(frozen=True)
class Hardware:
    """The hardware that work can run on; without devices it runs on the cores."""

    devices: tuple[Device, ...]
    cores: int
    driver: str = ""
    cuda: str = ""

    @property
    def default_slots(self) -> int:
        """One per GPU or MIG slice; without one, half the cores."""
        return len(self.devices) or max(1, self.cores // 2)

    def metadata(self) -> dict[str, object]:
        """The `metadata` of the registration (§2.4)."""
        if not self.devices:
            return {"device": "cpu", "cores": self.cores}
        first = self.devices[0]
        known = {
            "gpuModel": first.model,
            "memory": f"{round(first.memory / 2**30)}GB" if first.memory else "",
            "cudaVersion": self.cuda,
            "driverVersion": self.driver,
        }
        return {name: value for name, value in known.items() if value} | {"gpuCount": len(self.devices)}


def detect(environ: Mapping[str, str]) -> Hardware:
    """Ask NVML; a machine without its library, driver or devices, or an empty CUDA_VISIBLE_DEVICES, is a CPU node."""
    cores = _cores()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.info("no GPU here (%s): %d cores", error, cores)
        return Hardware((), cores)
    try:
        devices = tuple(_visible(_boards(), environ.get("CUDA_VISIBLE_DEVICES")))
        if not devices:
            log.info("a GPU driver, but no device that we may use: %d cores", cores)
        return Hardware(devices, cores, _or_else(pynvml.nvmlSystemGetDriverVersion, ""), _cuda_version())
    finally:
        pynvml.nvmlShutdown()


@dataclass(frozen=True)
class _Board:
    """A physical GPU: itself one device, or as many as it has MIG slices."""

    uuid: str
    devices: tuple[Device, ...]


def _boards() -> list[_Board | None]:
    """The boards by NVML's index; None for one that does not answer."""
    boards: list[_Board | None] = []
    for index in range(_or_else(pynvml.nvmlDeviceGetCount, 0)):
        try:
            boards.append(_board(pynvml.nvmlDeviceGetHandleByIndex(index)))
        except pynvml.NVMLError as error:
            log.warning("GPU %d is left out: %s", index, error)
            boards.append(None)
    return boards


def _board(handle: Any) -> _Board:
    uuid = pynvml.nvmlDeviceGetUUID(handle)
    mode = _or_else(lambda: pynvml.nvmlDeviceGetMigMode(handle)[0], 0)  # most GPUs do not know MIG at all
    if mode != pynvml.NVML_DEVICE_MIG_ENABLE:
        return _Board(uuid, (_device(handle),))
    slices = tuple(_slices(handle))
    if not slices:
        log.warning("%s is in MIG mode and has no slice that we may use: nothing can run on it", uuid)
    return _Board(uuid, slices)


def _slices(handle: Any) -> Iterator[Device]:
    """The MIG slices of a board that this process can see; empty places are skipped."""
    for index in range(_or_else(lambda: pynvml.nvmlDeviceGetMaxMigDeviceCount(handle), 0)):
        with suppress(pynvml.NVMLError):
            yield _device(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))


def _visible(boards: Sequence[_Board | None], allowed: str | None) -> Iterator[Device]:
    """The devices that the agent itself may use: NVML ignores CUDA_VISIBLE_DEVICES, so it is honoured here."""
    if allowed is None:
        yield from (device for board in boards if board for device in board.devices)
        return
    for name in filter(None, map(str.strip, allowed.split(","))):
        if (found := _named(boards, name)) is None:
            log.warning("device %s does not exist: it and those after it are left out, as CUDA does", name)
            return
        yield from found


def _named(boards: Sequence[_Board | None], name: str) -> tuple[Device, ...] | None:
    """A GPU by index or UUID, with all its slices; or one slice by its UUID. The start of a UUID is enough."""
    if name.isdigit():
        board = boards[int(name)] if int(name) < len(boards) else None
        return board.devices if board else None
    for board in filter(None, boards):
        if board.uuid.startswith(name):
            return board.devices
        for device in board.devices:
            if device.uuid.startswith(name):
                return (device,)
    return None


def _device(handle: Any) -> Device:
    # By UUID from here on: an index means another device to NVML (bus order) than to CUDA (fastest first).
    return Device(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        model=pynvml.nvmlDeviceGetName(handle),
        memory=_or_else(lambda: int(pynvml.nvmlDeviceGetMemoryInfo(handle).total), 0),  # unknown where it is shared
    )


def _cuda_version() -> str:
    version = _or_else(pynvml.nvmlSystemGetCudaDriverVersion, 0)  # 12040 is 12.4
    return f"{version // 1000}.{version % 1000 // 10}" if version else ""


def _or_else(ask: Callable[[], T], default: T) -> T:
    """NVML's answer, or a default: not every driver and device answers every question."""
    try:
        return ask()
    except pynvml.NVMLError as error:
        log.debug("NVML: %s", error)
        return default


def _cores() -> int:
    """The number of cores that this process may use: a container may have fewer than the machine."""
    try:
        return len(psutil.Process().cpu_affinity() or ()) or 1
    except AttributeError:  # macOS has no affinity
        return os.cpu_count() or 1
