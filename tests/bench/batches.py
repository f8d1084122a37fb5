"""A batch of a thousand tasks against single creations of the same, in turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.bench.figures import Figure, Of, at_least, at_most
from tests.bench.plan import Plan
from tests.bench.rig import DEADLINE_MS, Rig
from tests.bench.stats import Samples

TYPE = 15
SIZE, SINGLES, CREATORS, ROUNDS = 1000, 100, 4, 3
TASK = {"taskType": TYPE, "userId": "bench", "app": "bench", "payload": "{}", "timeout": DEADLINE_MS}


async def measure(rig: Rig, plan: Plan) -> list[Figure]:
    """Measure creations a second behind a fleet without a node for them."""
    batches, singles, held = [], [], Held(rig)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await rig.create_many(TYPE, [{}] * SINGLES, at_once=CREATORS)
        singles.append(SINGLES / (time.perf_counter() - began))
        async with held.watched():
            reply = await rig.api.call("POST", "/tasks/batch", {"tasks": [TASK] * SIZE})
        batches.append(SIZE / reply.took)
    found, reference = Samples.of(batches), Samples.of(singles)
    note = f"{ROUNDS} batches of {SIZE:,}, each after {SINGLES} single creations"
    against = f"single creations by {CREATORS} clients"
    longest = Samples.of(held.longest_ms)
    return [
        Figure("creations in a batch, p50", found.p50, "1/s", reference.p50, against, at_least(10), ROUNDS, note),
        Figure("lock of the type while a batch comes, p50", longest.p50, "ms", target=at_most(50, Of.VALUE), n=ROUNDS),
    ]


class Held:
    """How long a release waits for the lock of the type, at most, while each batch comes."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.longest_ms: list[float] = []

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Take the lock shared again and again, as releases do."""
        self.longest_ms.append(0.0)
        watch = asyncio.create_task(self._watch())
        yield
        watch.cancel()
        await asyncio.wait([watch])

    async def _watch(self) -> None:
        while True:
            began = time.perf_counter()
            await self._rig.database.execute("SELECT pg_advisory_xact_lock_shared(7101, %s)", [TYPE])
            self.longest_ms[-1] = max(self.longest_ms[-1], 1000 * (time.perf_counter() - began))
            await asyncio.sleep(0.002)
