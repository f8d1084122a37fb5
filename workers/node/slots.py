"""The slots of a node: how many attempts run at once, and on which device each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from workers.node.detect import Device


@dataclass(frozen=True)
class Slot:
    """Room for one attempt."""

    index: int
    device: str  # for CUDA_VISIBLE_DEVICES; empty hides every GPU from a CPU slot


class Slots:
    """All slots of the node; several may share one device."""

    def __init__(self, count: int, devices: tuple[Device, ...]) -> None:
        names = [device.uuid for device in devices] or [""]
        self.all = tuple(Slot(index, names[index % len(names)]) for index in range(count))
        self._free = set(self.all)
        self._busy: Counter[str] = Counter()

    @property
    def any_free(self) -> bool:
        """Whether `take` would succeed."""
        return bool(self._free)

    def take(self) -> Slot | None:
        """A free slot on the device with the least work, or None."""
        if not self._free:
            return None
        slot = min(self._free, key=lambda free: (self._busy[free.device], free.index))
        self._free.remove(slot)
        self._busy[slot.device] += 1
        return slot

    def release(self, slot: Slot) -> None:
        """Give a slot back."""
        self._free.add(slot)
        self._busy[slot.device] -= 1
