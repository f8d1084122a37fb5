"""A worker whose database loses writes: `python -m tests.e2e.lossy_worker EVERY LOG`.

Of the transactions that accept, settle or collect an attempt some are rolled back and reported as done, as if
Postgres had lost them after the commit: of each kind (see `noted`) the first and then one in EVERY. Each loss is a
line in LOG. Here a step is overdue after 3 s.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar

from activities import reconciler
from infra.db.connection import Connection
from infra.db.session import ANSWER_S, Database
from infra.db.transactions import accept_attempt, collect_attempt, settle_attempt
from workers import cli
from workers.serving import schema
from workflows.domain.task import TERMINAL

STEPS = (
    (accept_attempt, "accept"),
    (settle_attempt, "settle"),
    (collect_attempt, "collect"),
    (collect_attempt, "complete"),
)

_done: ContextVar[list[str]] = ContextVar("done")


class Lost(Exception):
    """Rolls a transaction back and carries its answer out."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer


def noted(name: str, step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The step, which leaves word that it was part of the transaction, and whether it ended the task."""

    @wraps(step)
    async def with_word(*arguments: Any, **options: Any) -> Any:
        answer = await step(*arguments, **options)
        if answer is None and name == "complete":
            return answer  # it has left it to `collect`
        ended = name == "collect" and answer.status in TERMINAL
        _done.get().append("collect-end" if ended else name)
        return answer

    return with_word


class LossyDatabase(Database):
    """Loses as the command line says."""

    every = int(sys.argv[1])
    log = Path(sys.argv[2])
    seen: ClassVar[Counter[str]] = Counter()

    async def run(self, work: Callable[[Connection], Awaitable[Any]], *, within_s: float | None = ANSWER_S) -> Any:
        done: list[str] = []
        _done.set(done)

        async def lossy(connection: Connection) -> Any:
            answer = await work(connection)
            kind = " ".join(done)
            self.seen[kind] += 1
            if done and self.seen[kind] % self.every == 1:
                raise Lost(answer)
            return answer

        try:
            return await super().run(lossy, within_s=within_s)
        except Lost as lost:
            with self.log.open("a") as log:
                log.write(" ".join(done) + "\n")
            return lost.answer

    async def single(self, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        return await self.run(work)


if __name__ == "__main__":
    for module, name in STEPS:
        setattr(module, name, noted(name, getattr(module, name)))
    schema.Database = LossyDatabase  # type: ignore[attr-defined]  # it imports it
    reconciler.AGE_S, reconciler.SIGNAL_S, reconciler.OVERDUE_S, reconciler.DELIVERY_S = 1.0, 2.0, 3.0, 3.0
    sys.exit(cli.main(["worker"]))
