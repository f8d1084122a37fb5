"""The console's first page: its sentence says what is wrong, and why tasks wait."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from api.console import charts
from api.console.page import Asked
from api.console.pages import now, queue
from api.console.pages.now import Seen
from infra.db.access.callers import Caller
from infra.db.ops.health import SystemState
from infra.db.ops.instances import ListedInstance
from infra.db.ops.kinds import Kind
from infra.db.queue.oldest import Oldest
from infra.db.slots.capacity import Capacity, Nodes
from infra.db.slots.usage import Slots
from infra.db.tasks.waits import MinuteOfOwner
from infra.settings import Settings
from tests.unit.console_rows import AT, WAIT, asked, html_of, sentence_in, state
from workflows.domain.health import Health
from workflows.domain.role import Role


async def test_the_call_that_creates_a_task_goes_to_this_api() -> None:
    for page, one in ((now.PAGE, asked([Seen(state(), {}, {}, {}, Slots(0, 0), [])])),):
        one.context.settings = Settings(public_url="https://gpus.example:8443")
        assert "POST https://gpus.example:8443/api/v2/tasks" in await html_of(page, one)


async def test_the_first_sentence_is_made_of_data() -> None:
    first = Oldest(2, "task_1", AT, 541.0)
    read = Seen(state(), {2: WAIT}, {2: first}, {2: Slots(4, 2)}, Slots(4, 2), [])
    text = await html_of(now.PAGE, asked([read]))
    assert 'href="/console/queue?taskType=2">9 tasks' in text
    assert sentence_in(text) == (
        "Now 2 nodes are faulty; 1 node is offline; 9 tasks of type 2 wait, the oldest for 9 m; no instance leads; "
        "2 workflows cannot go on; a disk is nearly full: instance-001; 90 of the last 90 tasks failed."
    )


STATES = [
    (gpus, draining, queued, recent, alive, stuck, alerts_)
    for gpus in ({}, {"ACTIVE": 1}, {"ACTIVE": 9, "OFFLINE": 1}, {"FAULTY": 1}, {"OFFLINE": 2})
    for draining in (0, 1)
    for queued in (0, 1, 101, 901)
    for recent in ({}, {"FAILED": 2, "COMPLETED": 10})
    for alive in (True, False)
    for stuck in (0, 1)
    for alerts_ in ({}, {("WARNING", "ACTIVE"): 1})
    if draining <= gpus.get("ACTIVE", 0)
]


async def test_all_is_well_only_if_health_says_so() -> None:
    said = set()
    for gpus, draining, queued, recent, alive, stuck, alerts_ in STATES:
        instance = ListedInstance("i", "api", "1", AT, AT, 1.0, 2.0, 3.0, alive, True, False)
        gpus = {"ACTIVE": 0, "OFFLINE": 0, "FAULTY": 0} | gpus
        counts: dict[Kind, int] = {(2, "QUEUED"): queued}
        one = SystemState(gpus, counts, alerts_, recent, [instance], stuck=stuck, draining=draining)
        working = gpus["ACTIVE"] - draining
        slots = {2: Slots(working, 0)} if working else {}
        read = Seen(one, {2: WAIT}, {}, slots, Slots(working, 0), [])
        found = sentence_in(await html_of(now.PAGE, asked([read])))
        is_well = found.startswith(("Now All well", "Now No node yet"))
        assert not is_well or (one.levels.system is Health.HEALTHY and not alerts_), (found, one)
        said.add(found)
    assert "Now 1 warning is open." in said
    assert "Now Every active node is draining." in said
    assert "Now More than 100 tasks wait for each node." in said


def of_user(kinds: dict[tuple[int, str], int], failed: int = 0, slots: int = 4) -> Asked:
    one = asked([])
    context: Any = one.context
    caller = Caller("key_1", Role.USER, "ada", "key_1")
    minutes = [MinuteOfOwner(charts.last_hour()[-2], 12, failed, [])]
    first = [[MagicMock()] for _, status in kinds if status == "QUEUED"]
    context.database.single = AsyncMock(side_effect=[kinds, *first, minutes])
    nodes = Nodes(5, 0 if slots else 5, 0, 1, 1, 1, 0, 1, 0, slots, 0)
    context.forecast.of = AsyncMock(return_value=Capacity(nodes, [2], [], 1.0))
    return replace(one, caller=caller)


@pytest.mark.parametrize(
    ("kinds", "failed", "slots", "said"),
    [
        ({}, 0, 4, "All well: none of your tasks waits or runs."),
        ({(2, "QUEUED"): 3}, 0, 4, "All well: 0 of your tasks running, 3 waiting: all slots for this type are taken."),
        ({(2, "QUEUED"): 3}, 0, 0, "3 tasks of type 2 wait: no node runs this type."),
        ({(2, "PROCESSING"): 1}, 2, 4, "2 of your tasks have failed in the last hour."),
    ],
)
async def test_a_user_reads_in_a_sentence_what_is_wrong_and_why_tasks_wait(
    monkeypatch: pytest.MonkeyPatch, kinds: dict[tuple[int, str], int], failed: int, slots: int, said: str
) -> None:
    row = queue.Row(MagicMock(task_id="t", task_type=2), 3, True, (5.0, 9.0), 7.0, "", None)
    monkeypatch.setattr(queue, "rows", AsyncMock(return_value=[row]))
    text = await html_of(now.PAGE, of_user(kinds, failed, slots))
    assert sentence_in(text) == f"Now {said}"
    assert "/console/nodes" not in text
    assert "/console/fleet" not in text
