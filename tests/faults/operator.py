"""An operator who drains healthy nodes, one after the other, in the middle of load and faults."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from random import Random
from typing import Any

import psycopg

from tests.faults.clients import Clients
from workflows.domain.attempt import HELD_S

PAUSE_S = (0.5, 2.0)
RUNS_ON_S = (0.3, 2.5)
"""Seconds from a drain to its deadline."""
IDLE_WITHIN_S = 20.0 + HELD_S
"""Seconds after the deadline: a leader that is killed has a successor by then, and a silent node holds its slots no
longer."""
AGAIN_S = 0.2
LEAST = 3
"""Drains of a run, however short it is."""
_CLAIMED = (
    "SELECT task_id || '-' || attempt FROM attempts"
    " WHERE gpu_id = %s AND claimed_at BETWEEN to_timestamp(%s) AND to_timestamp(%s)"
)


@dataclass(frozen=True)
class Drained:
    """A time in which nothing may be claimed on a node: from the answer to the drain to the call that ends it."""

    gpu_id: str
    since: float
    until: float


@dataclass
class Operator:
    """`drained` are the times to check, `wrong` says what never may be."""

    clients: Clients
    nodes: tuple[str, ...]
    chance: Random
    drained: list[Drained] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    async def work(self, seconds: float) -> None:
        """Drain one node after the other for `seconds`, and on a busy machine until `LEAST` are drained.

        They take turns: a call that a paused API carries out late must not meet the same node's next drain.
        """
        over = time.monotonic() + seconds
        turns = itertools.cycle(self.nodes)
        while time.monotonic() < over or len(self.drained) < LEAST:
            await asyncio.sleep(self.chance.uniform(*PAUSE_S))
            await self._drain(next(turns), self.chance.uniform(*RUNS_ON_S))

    async def finish(self) -> None:
        """End a drain that was carried out late."""
        for gpu_id in self.nodes:
            await self.clients.insist("POST", f"/gpus/{gpu_id}/undrain")

    async def _drain(self, gpu_id: str, runs_on_s: float) -> None:
        deadline = time.time() + runs_on_s
        body = {"reason": "new fan", "deadline": int(deadline * 1000)}
        if not await self._began(gpu_id, body, deadline):
            return
        since = time.time()
        await self._idle(gpu_id, deadline + IDLE_WITHIN_S)
        self.drained.append(Drained(gpu_id, since, time.time()))
        await self.clients.insist("POST", f"/gpus/{gpu_id}/undrain")

    async def _began(self, gpu_id: str, body: dict[str, Any], deadline: float) -> bool:
        """Try until it is answered; a deadline that has passed by then is refused, but an earlier try may count."""
        while time.time() < deadline - AGAIN_S:
            try:
                answer = await self.clients.http.post(f"/gpus/{gpu_id}/drain", json=body)
            except Exception as error:  # noqa: BLE001  whatever the network does
                self.clients.answers[type(error).__name__] += 1
            else:
                self.clients.answers[str(answer.status_code)] += 1
                if answer.status_code == 200:
                    return True
            await asyncio.sleep(AGAIN_S)
        await self.clients.insist("POST", f"/gpus/{gpu_id}/undrain")
        return False

    async def _idle(self, gpu_id: str, until: float) -> None:
        left = await self._left(gpu_id)
        while left:
            if time.time() > until:
                self.wrong.append(f"{gpu_id} holds {left} attempts {IDLE_WITHIN_S} s after the deadline of its drain")
                return
            await asyncio.sleep(AGAIN_S)
            left = await self._left(gpu_id)

    async def _left(self, gpu_id: str) -> int:
        """The attempts that hold the node's slots."""
        drain = (await self.clients.insist("GET", f"/gpus/{gpu_id}"))["drain"]
        if drain is None:
            self.wrong.append(f"{gpu_id} lost its drain")
            return 0
        return int(drain["remaining"])

    async def check(self, url: str) -> list[str]:
        """Claims on nodes while they drained, out of the database at `url`, and what was wrong before."""
        async with await psycopg.AsyncConnection.connect(url) as connection:
            for one in self.drained:
                cursor = await connection.execute(_CLAIMED, (one.gpu_id, one.since, one.until))
                self.wrong += [
                    f"{row[0]} was claimed on {one.gpu_id}, which drained" for row in await cursor.fetchall()
                ]
        return self.wrong
