"""The last beats of nodes: in Redis at once, in Postgres with the next batch."""

from __future__ import annotations

import time

from infra.cache import Cache
from infra.db.nodes import liveness
from infra.db.session import Database
from infra.db.write_behind import WriteBehind

CLOCKS_DIFFER_MS = 5000
"""Milliseconds by which the clocks of two API processes may differ."""


class Beats:
    """The beats that this process has received, and those that the others have left in Redis."""

    def __init__(self, database: Database, cache: Cache) -> None:
        self._cache = cache
        self.pending = WriteBehind(database, liveness.record_beats)

    async def record(self, gpu_id: str) -> None:
        """Record a beat now."""
        self.pending.note(gpu_id)
        await self._cache.beat(gpu_id, now_ms())

    async def last(self, gpu_ids: list[str]) -> dict[str, int]:
        """The newest known beats in ms since the epoch, without those that lie in the future."""
        latest = now_ms() + CLOCKS_DIFFER_MS
        known = {gpu_id: at for gpu_id, at in (await self._cache.beats(gpu_ids)).items() if at <= latest}
        for gpu_id in gpu_ids:
            if (ago_s := self.pending.ago_s(gpu_id)) is not None:
                known[gpu_id] = max(known.get(gpu_id, 0), now_ms() - int(1000 * ago_s))
        return known


def now_ms() -> int:
    """This process's wall clock, in ms since the epoch."""
    return int(time.time() * 1000)
