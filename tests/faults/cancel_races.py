"""`python -m tests.faults.cancel_races --races 10000`: a cancel, a result and a timeout of one attempt, all at once.

They are the product's own transactions, on connections of their own, on a Postgres that is started for it. Of the three
exactly one may win, every time, and `verify` must find nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, cast

from infra.data_dir.embedded import DATABASE, postgres_url
from infra.data_dir.layout import DataDir
from infra.db.connection import Connection
from infra.db.repair import invariants, verify
from infra.db.schema.migrate import migrate
from infra.db.session import Database
from infra.db.tasks import outbox
from infra.db.transactions import accept_attempt, cancel_task, collect_attempt, release_attempt, settle_attempt
from infra.db.transactions.report import Report, take_result
from infra.db.transactions.settle_attempt import SettleResult
from tests.db.life import Life
from tests.db.rows import CREATOR
from tests.db.sessions import Session
from workers.stack import postgres
from workers.stack.supervisor import Supervisor
from workflows.domain.attempt import End, Outcome

LANES = 6
"""Races at once, each on a node of its own."""
WITHIN_S = {"cancel": 0.006, "result": 0.004, "timeout": 0.009}
"""Each call of a race begins within this time, so that each wins about as often."""
_TOKEN = "SELECT token FROM attempts WHERE task_id = %(task_id)s AND attempt = 1"
_STANDS = """
    SELECT t.status || ' ' || COALESCE(t.end_reason, '-') || ' ' || a.outcome || ' '
           || (SELECT count(*) FROM task_results r WHERE r.task_id = t.task_id) || ' '
           || (SELECT count(*) FROM outbox_ends o WHERE o.task_id = t.task_id)
      FROM tasks t JOIN attempts a ON a.task_id = t.task_id WHERE t.task_id = %(task_id)s
    """
_WAKE = "UPDATE gpus SET not_before = NULL WHERE gpu_id = %(gpu_id)s"  # a node that times out often has a rest
_TRACES = {
    "entries in the audit log": "SELECT count(*)::int FROM audit_log WHERE action = 'task.cancel'",
    "late results": "SELECT count(*)::int FROM late_reports WHERE kind = 'result'",
    "slots still held": "SELECT count(*)::int FROM attempts WHERE released_at IS NULL",
}
_ENDS = {
    "cancel": "FAILED CANCELLED TASK_ENDED 0 1",
    "result": "COMPLETED - SUCCEEDED 1 0",
    "timeout": "TIMEOUT - TIMED_OUT 0 0",
}
"""The end by the winner: status, reason, the attempt's outcome, the numbers of results and of entries for the
workflow."""
_DEADLOCKS = "SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()"


@dataclass
class Races:
    """`won` counts the winners; `wrong` says what never may be."""

    database: Database
    chance: Random
    won: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    deadlocks: int = 0

    async def run(self, races: int) -> None:
        """All races, `LANES` at a time, then the checks."""
        for lane in range(LANES):
            await self.database.run(partial(_node, lane=lane))
        turns = iter(range(races))
        async with asyncio.TaskGroup() as group:
            for lane in range(LANES):
                group.create_task(self._lane(lane, turns))
        await self._check(races)

    async def _lane(self, lane: int, turns: Iterator[int]) -> None:
        for n in turns:
            await self._race(f"t{n}", lane)

    async def _race(self, task_id: str, lane: int) -> None:
        async def begin(connection: Connection) -> str:
            await _life(connection).create(task_id, lane, max_retries=0, claims_slot=True)
            await accept_attempt.accept(connection, task_id, 1, actor="test")
            return await connection.one(str, _TOKEN, {"task_id": task_id})

        token = await self.database.run(begin)
        started = {
            "cancel": self._cancel(task_id),
            "result": self._result(task_id, token),
            "timeout": self._timeout(task_id, in_two=self.chance.random() < 0.5),
        }
        delays = [self.chance.uniform(0, within_s) for within_s in WITHIN_S.values()]
        answers = await asyncio.gather(
            *(_after(delay, one) for delay, one in zip(delays, started.values(), strict=True))
        )
        winners = [name for name, won in zip(started, answers, strict=True) if won]
        self.won.update(winners)
        stands = await self.database.single(lambda c: c.one(str, _STANDS, {"task_id": task_id}))
        if [stands] != [_ENDS[name] for name in winners]:
            self.wrong.append(f"{task_id} is {stands}, and won was {winners or 'nobody'}")
        await self.database.run(lambda c: release_attempt.release(c, task_id, 1))
        await self.database.single(lambda c: outbox.clear_ends(c, [task_id]))
        await self.database.single(lambda c: c.execute(_WAKE, {"gpu_id": f"n{lane}"}))

    async def _cancel(self, task_id: str) -> bool:
        return (await self.database.run(lambda c: cancel_task.cancel(c, CREATOR, task_id, None))).changed

    async def _result(self, task_id: str, token: str) -> bool:
        heard = await take_result(self.database, Report(task_id, token, None, "k"), '{"n":1}')
        if heard.refusal is None:  # then the workflow collects it
            await self.database.run(lambda c: collect_attempt.collect(c, task_id, 1))
        return heard.refusal is None

    async def _timeout(self, task_id: str, *, in_two: bool) -> bool:
        """Time out by the workflow in one transaction, or by the reconciler and then the workflow, in two."""

        async def close(connection: Connection) -> bool:
            end = End(Outcome.TIMED_OUT, "r")
            settled = await settle_attempt.settle(connection, task_id, 1, end, actor="test")
            if not in_two:
                await collect_attempt.collect(connection, task_id, 1)
            return settled.answer is SettleResult.SETTLED

        won = await self.database.run(close)
        if won and in_two:
            await self.database.run(lambda c: collect_attempt.collect(c, task_id, 1))
        return won

    async def _check(self, races: int) -> None:
        """Check the rows that the races have left, and all that `verify` checks."""
        cancels, results = self.won["cancel"], self.won["result"]
        wanted = dict(zip(_TRACES, (cancels, races - results, 0), strict=True))
        for what, statement in _TRACES.items():
            found = await self.database.single(partial(_count, statement=statement))
            if found != wanted[what]:
                self.wrong.append(f"{found} {what} instead of {wanted[what]}")

        self.deadlocks = await self.database.single(partial(_count, statement=_DEADLOCKS))

        async def read(connection: Connection) -> list[verify.Finding]:
            await verify.take_snapshot(connection)
            return [await verify.find(connection, one) for one in (*invariants.ALWAYS, invariants.NOTHING_IN_FLIGHT)]

        for one in await self.database.run(read, within_s=None):
            if one.violations:
                self.wrong.append(f"{one.name}: {one.violations}, {', '.join(one.examples)}")


def _life(connection: Connection) -> Life:
    return Life(cast(Session, connection))


async def _node(connection: Connection, lane: int) -> None:
    await _life(connection).node(f"n{lane}", [lane])


async def _count(connection: Connection, statement: str) -> int:
    return await connection.one(int, statement)


async def _after(delay_s: float, contender: Coroutine[Any, Any, bool]) -> bool:
    await asyncio.sleep(delay_s)
    return await contender


async def race(url: str, races: int, seed: int) -> Races:
    """Run the races on the empty database at `url`."""
    database = Database(url)
    try:
        await migrate(database)
        found = Races(database, Random(seed))
        await found.run(races)
    finally:
        await database.close()
    return found


async def _alone(races: int, seed: int) -> Races:
    """Run the races on a Postgres of their own."""
    with tempfile.TemporaryDirectory(prefix="gpu-orchestrator-races-") as folder:
        layout = DataDir.create(Path(folder))
        async with Supervisor(layout, [[postgres.part(layout)]], log=lambda name, line: None):
            return await race(postgres_url(layout, DATABASE), races, seed)


def main() -> int:
    """0 where everything holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.cancel_races", description=__doc__)
    parser.add_argument("--races", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=2026, help="of who begins when; the interleaving does not follow")
    args = parser.parse_args()
    began = time.monotonic()
    found = asyncio.run(_alone(args.races, args.seed))
    figures = {
        "races": args.races,
        **found.won,
        "wrong": len(found.wrong),
        "deadlocks": found.deadlocks,
        "s": round(time.monotonic() - began, 1),
    }
    sys.stdout.write("".join(f"WRONG: {one}\n" for one in found.wrong[:20]) + json.dumps(figures) + "\n")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
