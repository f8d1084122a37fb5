"""In what order an API process starts the workflows of new tasks (ADR 0018)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from api import dependencies as contexts
from api.dependencies import Context
from api.routes.tasks import _start
from infra.db.creation import Created, NewTask
from infra.db.first_looks import LATEST_LOOK_S
from infra.settings import Settings
from infra.temporal.access import TemporalAway
from tests.conftest import eventually
from workflows.messages import Grant, TaskInput

LONG_S = 3600.0
TASK = NewTask("a", 1, "u", "app", 0, 0, "{}", None, 1000, 0, None, "admin", None, None)
WAITS = Created(cast(Any, None), unstarted=True, surely_waits=True)
GRANTED = Created(cast(Any, None), unstarted=True, grant=Grant(1, "n"))
LOOKS = Created(cast(Any, None), unstarted=True)
FAR_BACK = replace(WAITS, far_back=True)


class Slow:
    """An engine that answers no start before it may."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.put_off_s: dict[str, float] = {}
        self.answers = asyncio.Event()
        self.is_away = False

    async def start_task(self, task: TaskInput, *, first_look_s: float) -> None:
        self.asked.append(task.task_id)
        self.put_off_s[task.task_id] = first_look_s
        await self.answers.wait()
        if self.is_away:
            raise TemporalAway


class Starting:
    """Creations whose rows are committed, at an engine that is slow."""

    def __init__(self) -> None:
        self.engine = Slow()
        nothing: Any = None
        settings = Settings()
        self._context = Context(nothing, nothing, cast(Any, self.engine), settings, nothing, nothing, nothing)
        self.due_looks = self._context.due_looks
        self._all: list[asyncio.Task[None]] = []

    def begin(self, task_id: str, created: Created) -> None:
        task = replace(TASK, task_id=task_id)
        self._all.append(asyncio.create_task(_start(self._context, task, created)))

    async def have_begun(self, count: int) -> list[str]:
        async def asked() -> list[str] | None:
            return self.engine.asked if len(self.engine.asked) >= count else None

        return list(await eventually(asked, within=10))

    async def end(self) -> None:
        self.engine.answers.set()
        await asyncio.gather(*self._all)


@pytest.mark.parametrize("created", [GRANTED, LOOKS])
async def test_who_can_run_is_not_behind_those_who_wait(created: Created, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "STARTS_WAIT_S", LONG_S)
    starting = Starting()
    for number in range(3):
        starting.begin(f"waits-{number}", WAITS)
    starting.begin("runs", created)
    assert await starting.have_begun(2) == ["waits-0", "runs"]
    await starting.end()
    assert starting.engine.asked == ["waits-0", "runs", "waits-1", "waits-2"]


async def test_behind_an_engine_that_hangs_nobody_queues() -> None:
    starting = Starting()
    for number in range(5):
        starting.begin(f"waits-{number}", WAITS)
    await starting.have_begun(5)
    assert not starting.engine.answers.is_set()
    await starting.end()


async def test_who_has_many_ahead_looks_far_later_and_that_is_kept() -> None:
    starting = Starting()
    starting.engine.answers.set()
    for task_id, created in (("near", WAITS), ("far", FAR_BACK), ("runs", GRANTED)):
        starting.begin(task_id, created)
    await starting.end()
    put_off_s = starting.engine.put_off_s
    assert put_off_s["near"] == put_off_s["runs"] == 0
    assert LATEST_LOOK_S / 2 <= put_off_s["far"] <= LATEST_LOOK_S
    due_in_s = {name: -(starting.due_looks.ago_s(name) or 0) for name in put_off_s}
    assert due_in_s == pytest.approx({"near": 0, "far": put_off_s["far"], "runs": 0}, abs=10)


async def test_a_start_that_failed_keeps_nothing_from_the_reconciler() -> None:
    starting = Starting()
    starting.engine.is_away = True
    starting.begin("far", FAR_BACK)
    await starting.end()
    assert starting.engine.asked == ["far"]
    assert starting.due_looks.ago_s("far") is None
