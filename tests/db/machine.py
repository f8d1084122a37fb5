"""Hypothesis' state machines over a database of their own, built by the migrations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from infra.data_dir import embedded
from infra.db.connection import Connection
from infra.db.schema.migrate import migrate
from infra.db.session import Database
from tests.db.sessions import Sessions, untyped
from workers.stack.stack import Stack


class DatabaseMachine(RuleBasedStateMachine):
    """A machine whose rules are transactions."""

    runner: asyncio.Runner
    database: Database

    def do(self, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        return self.runner.run(self.database.run(work))

    def rows(self, statement: str, **values: Any) -> list[Any]:
        return self.do(lambda c: untyped(c, statement, values))


Machine = TypeVar("Machine", bound=DatabaseMachine)


@contextmanager
def over(stack: Stack, name: str, machine: type[Machine]) -> Iterator[type[Machine]]:
    """The machine over a new database of this name, which it empties itself before each run."""
    with asyncio.Runner() as runner:

        async def prepare() -> Database:
            administration = Sessions(stack.services.database_url)
            async with administration.connect(autocommit=True) as connection:
                await connection.execute(f"CREATE DATABASE {name}")
            database = Database(embedded.postgres_url(stack.data_dir, name))
            await migrate(database)
            return database

        database = runner.run(prepare())
        yield type(machine.__name__, (machine,), {"runner": runner, "database": database})
        runner.run(database.close())


def drive(machine: type[RuleBasedStateMachine], *, runs: int, steps: int) -> None:
    """Always the same runs; there is no deadline, since the database is real."""
    chosen = settings(
        max_examples=runs,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)
