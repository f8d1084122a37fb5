"""A batch of a thousand tasks beside single creations of the same, in turn."""

from __future__ import annotations

import time

from tests.bench.figures import Figure, at_least
from tests.bench.plan import Plan
from tests.bench.rig import DEADLINE_MS, Rig
from tests.bench.stats import Samples

TYPE = 15
SIZE, SINGLES, CREATORS, ROUNDS = 1000, 100, 4, 3
TASK = {"taskType": TYPE, "userId": "bench", "app": "bench", "payload": "{}", "timeout": DEADLINE_MS}


async def measure(rig: Rig, plan: Plan) -> list[Figure]:
    """Measure creations a second behind a fleet without a node for them."""
    batches, singles = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await rig.create_many(TYPE, [{}] * SINGLES, at_once=CREATORS)
        singles.append(SINGLES / (time.perf_counter() - began))
        reply = await rig.api.call("POST", "/tasks/batch", {"tasks": [TASK] * SIZE})
        batches.append(SIZE / reply.took)
    found, reference = Samples.of(batches), Samples.of(singles)
    note = f"{ROUNDS} batches of {SIZE:,}, each after {SINGLES} single creations"
    against = f"single creations by {CREATORS} clients"
    return [Figure("creations in a batch, p50", found.p50, "1/s", reference.p50, against, at_least(10), ROUNDS, note)]
