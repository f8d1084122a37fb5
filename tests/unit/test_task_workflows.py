"""The order in which an API process starts the workflows of new tasks."""

from __future__ import annotations

import asyncio

import pytest

from infra.temporal.access import TemporalAway
from infra.temporal.task_workflows import Starter
from tests.conftest import eventually
from workflows.messages import Grant, TaskInput


def task(task_id: str, *, waits: bool = True) -> TaskInput:
    return TaskInput(task_id, 1, "u", "a", 1, 1000, waits=waits, grant=None if waits else Grant(1, "n"))


class Slow:
    """Temporal, which answers no start before it may."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = asyncio.Event()
        self.is_away = False

    async def start_task(self, task: TaskInput, traceparent: str | None = None) -> None:
        self.asked.append(task.task_id)
        await self.answers.wait()
        if self.is_away:
            raise TemporalAway


class Starting:
    def __init__(self) -> None:
        self.temporal = Slow()
        self.started: list[str] = []
        self.starter = Starter(self.temporal, self.started.append)

    async def have_begun(self, count: int) -> list[str]:
        async def asked() -> list[str] | None:
            return self.temporal.asked if len(self.temporal.asked) >= count else None

        return list(await eventually(asked, within=10))


@pytest.fixture
async def starting() -> Starting:
    return Starting()


async def test_a_task_that_can_run_is_not_behind_those_that_wait(starting: Starting) -> None:
    for number in range(3):
        await starting.starter.start(task(f"waits-{number}"), None)
    runs = asyncio.create_task(starting.starter.start(task("runs", waits=False), None))
    assert sorted(await starting.have_begun(2)) == ["runs", "waits-0"]
    starting.temporal.answers.set()
    await runs
    assert (await starting.have_begun(4))[2:] == ["waits-1", "waits-2"]


async def test_nobody_waits_for_the_start_of_a_task_that_waits(starting: Starting) -> None:
    await starting.starter.start(task("waits"), None)
    assert starting.started == []
    starting.temporal.answers.set()
    await eventually(lambda: started(starting, ["waits"]))
    await starting.starter.start(task("later"), None)
    await eventually(lambda: started(starting, ["waits", "later"]))


async def test_a_start_that_failed_stays_in_the_outbox(starting: Starting) -> None:
    starting.temporal.is_away = True
    starting.temporal.answers.set()
    await starting.starter.start(task("waits"), None)
    await starting.starter.start(task("runs", waits=False), None)
    await starting.have_begun(2)
    starting.temporal.is_away = False
    await starting.starter.start(task("next", waits=False), None)
    assert starting.started == ["next"]


async def started(starting: Starting, expected: list[str]) -> bool:
    return starting.started == expected
