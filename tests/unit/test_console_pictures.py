"""The console's charts and pictures: where bars lie, what is joined, and that an axis begins at zero."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from unittest.mock import AsyncMock, MagicMock

import pytest

from api.console import answers, charts, pictures, timeline
from api.console.charts import Bars
from api.http.errors import NotFound
from api.routes import access
from infra.db.attempts.of_node import NodeAttempt
from tests.unit.whole_api import ask
from workflows.domain.role import Role

UNTIL = datetime(2026, 1, 1, 12, tzinfo=UTC)
SINCE = UNTIL - timedelta(hours=1)


def attempt(slot: int, begins_s: float, ends_s: float | None, outcome: str | None = "SUCCEEDED", **more) -> NodeAttempt:
    at = SINCE + timedelta(seconds=begins_s)
    closed = None if ends_s is None else SINCE + timedelta(seconds=ends_s)
    values = {"end_reason": None, "reason": None} | more
    return NodeAttempt(
        task_id=f"task_{begins_s}",
        attempt=1,
        slot=slot,
        claimed_at=at,
        closed_at=closed,
        outcome=outcome,
        progress=None,
        task_type=2,
        app="a",
        **values,
    )


@pytest.mark.parametrize(("document", "found"), [("input", b"in"), ("result", b"out"), ("env", None)])
async def test_a_picture_is_one_of_the_input_or_of_the_result(
    document: str, found: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picture(content: bytes) -> str:
        return json.dumps({"image": f"data:image/png;base64,{b64encode(content).decode()}"})

    task = MagicMock(payload=picture(b"in"), result=picture(b"out"))
    monkeypatch.setattr(answers, "caller_in", lambda _: MagicMock(role=Role.USER))
    monkeypatch.setattr(access, "read_task", AsyncMock(return_value=task))
    request = MagicMock(path_params={"task_id": "t", "document": document, "number": "0"})
    if found is None:
        with pytest.raises(NotFound):
            await pictures.picture(request)
    else:
        assert (await pictures.picture(request)).body == found


def test_a_bar_lies_where_its_attempt_was() -> None:
    lanes = timeline.of([attempt(1, 900, 1800), attempt(2, 3240, None, None)], 2, SINCE, UNTIL)
    assert [(bar.x, bar.width, bar.outcome, bar.has_room) for bar in lanes.bars] == [
        (25.0, 25.0, "SUCCEEDED", True),
        (90.0, 10.0, "RUNNING", True),
    ]
    assert lanes.bars[0].y < lanes.bars[1].y == lanes.lanes[1][1]
    assert [round(x) for x, _ in lanes.ticks] == [0, 17, 33, 50, 67, 83, 100]


def test_what_began_before_or_goes_on_is_cut_at_the_border() -> None:
    lanes = timeline.of([attempt(1, -600, 360), attempt(1, 3000, 9000)], 1, SINCE, UNTIL)
    assert [(bar.x, round(bar.x + bar.width)) for bar in lanes.bars] == [(0.0, 10), (83.333, 100)]


def test_many_short_attempts_of_one_outcome_are_one_bar() -> None:
    many = [attempt(1, n, n + 0.9) for n in range(600)] + [attempt(1, 600, 601, "FAILED")]
    lanes = timeline.of(many, 1, SINCE, UNTIL)
    assert [(bar.outcome, bar.count) for bar in lanes.bars] == [("SUCCEEDED", 600), ("FAILED", 1)]


def test_a_node_of_very_many_slots_is_drawn_in_part() -> None:
    lanes = timeline.of([attempt(64, 0, 9), attempt(65, 0, 9)], 1024, SINCE, UNTIL)
    assert (len(lanes.lanes), len(lanes.bars), lanes.left_out) == (64, 1, 960)


def test_a_bar_keeps_its_name_while_others_leave() -> None:
    tries = [attempt(1, 0, 360), attempt(1, 900, 1800), attempt(2, 1800, None, None)]
    early, late = (timeline.of(some, 2, SINCE, UNTIL).bars for some in (tries, tries[1:]))
    assert [(bar.task_id, bar.attempt) for bar in early[1:]] == [(bar.task_id, bar.attempt) for bar in late]
    assert late[-1].took_s is None


def test_an_attempt_on_a_slot_that_is_gone_has_a_lane() -> None:
    assert len(timeline.of([attempt(5, 0, 9)], 2, SINCE, UNTIL).lanes) == 5
    assert len(timeline.of([], 2, SINCE, UNTIL).lanes) == 2


def test_a_cancelled_attempt_says_so() -> None:
    assert timeline.outcome_of(attempt(1, 0, 1, "TASK_ENDED", end_reason="CANCELLED")) == "CANCELLED"
    assert timeline.outcome_of(attempt(1, 0, 1, "TASK_ENDED", end_reason="DEADLINE")) == "TASK_ENDED"
    assert timeline.of([attempt(1, 0, 9, "LOST")], 1, SINCE, UNTIL).bars[0].is_hatched


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (2, 2), (3, 3), (7, 8), (11, 12), (41, 60), (51, 60), (81, 100), (10**6, 10**6)]
)
def test_an_axis_ends_at_a_round_number(value: int, top: int) -> None:
    assert charts.ceiling(value) == top


def test_an_axis_begins_at_zero_and_is_filled() -> None:
    for peak in range(1, 2000):
        chart = Bars.of([(peak, 0)])
        assert chart.ticks[0][1] == 0
        assert len(chart.ticks) == len({y for y, _ in chart.ticks})
        assert peak >= chart.ticks[-1][1] * 2 / 3


def test_bars_grow_from_zero_and_are_stacked() -> None:
    chart = Bars.of([(0, 0), (50, 50), (100, 0)])
    first, second, third = chart.bars
    assert first.done_height == first.failed_height == 0
    assert second.done_y + second.done_height == third.done_y + third.done_height
    assert second.failed_y + second.failed_height == second.done_y
    assert third.done_height == 2 * second.done_height
    assert (chart.done, chart.failed) == (150, 50)
    assert Bars.of([]).bars == []


@pytest.mark.parametrize("number", ["6", "-1", "00", "\u0661", "x", "9" * 5000])
async def test_no_other_number_is_a_picture_s(number: str) -> None:
    assert (await ask("user", "GET", f"http://test/console/tasks/t/pictures/input/{number}")).status_code == 404
