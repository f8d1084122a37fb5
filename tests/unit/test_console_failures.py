"""Failures: what its buttons are about, which node fails most, and counts that groups left out do not change."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from starlette.datastructures import QueryParams

from api.console import rendering
from api.console.page import Asked
from api.console.pages import failures
from infra.db.attempts import recent_failures
from infra.db.attempts.recent_failures import FailureGroup
from infra.db.nodes import queries as node_queries
from infra.db.ops.api_keys import Caller
from workflows.domain.fault_attribution import Record
from workflows.domain.role import Role

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
RECORDS = {("gpu_07", 2): Record(17, 17), ("gpu_02", 2): Record(100, 1)}


def group(gpu_id: str, failures: int, signature: str = "boom", **more: Any) -> FailureGroup:
    values: dict[str, Any] = {
        "outcome": "FAILED", "signature": signature, "task_type": 2, "gpu_id": gpu_id, "failures": failures,
        "attributed": failures, "tasks": failures, "done_elsewhere": failures, "lost": 0, "lost_ids": [], "alike": 0,
        "last_at": AT, "reason": signature, "task_id": "t", "of_all": 40, "of_signature": failures,
        "of_node": failures, "signatures": 2,
    }  # fmt: skip
    return FailureGroup(**values | more)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Render the page of these groups, with these statuses of nodes."""

    async def rendered(groups: list[FailureGroup], states: dict[str, str], language: str = "en") -> str:
        monkeypatch.setattr(recent_failures, "groups", AsyncMock(return_value=groups))
        monkeypatch.setattr(recent_failures, "records", AsyncMock(return_value=RECORDS))
        monkeypatch.setattr(node_queries, "states", AsyncMock(return_value=states))
        context = MagicMock()

        async def read(work: Any) -> Any:
            return await work(None)

        context.database.single = read
        asked = Asked(context, Caller("k", Role.ADMIN, "o", "k"), {}, QueryParams(""), language)
        return rendering.page(failures.PAGE, asked, await failures.contents(asked)).html()

    return rendered


def ids(text: str, kind: str) -> list[str]:
    return re.findall(rf'<(?:section|tr)[^>]* id="({kind}-[0-9a-f]+)"', text)


async def test_what_is_sorted_anew_keeps_its_ids(page) -> None:
    """An element that is reused for another failure would do to its node what was meant for the first one's."""
    first = await page([group("gpu_07", 17), group("gpu_07", 9, "other")], {"gpu_07": "ACTIVE"})
    then = await page([group("gpu_07", 17), group("gpu_07", 19, "other")], {"gpu_07": "ACTIVE"})
    for kind in ("s", "r"):
        assert ids(first, kind) == ids(then, kind)[::-1]
        assert len(set(ids(first, kind))) == 2
    assert 'data-ask="Fault gpu_07?"' in first


async def test_a_row_about_another_node_is_another_row(page, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(await page([group("gpu_07", 17)], {}), "r")
    monkeypatch.setattr("tests.unit.test_console_failures.RECORDS", {("gpu_09", 2): Record(9, 9)})
    assert before != ids(await page([group("gpu_09", 17)], {}), "r")


@pytest.mark.parametrize(("states", "word"), [({"gpu_07": "FAULTY"}, "Faulty"), ({}, "Gone")])
async def test_a_node_that_is_faulty_or_gone_is_not_faulted_again(page, states: dict[str, str], word: str) -> None:
    """The way back would recover what somebody else has set."""
    text = await page([group("gpu_07", 17)], states)
    assert "/fault" not in text
    assert "/recover" not in text
    assert word in text.partition("Last task")[2].partition("</tr>")[0]


async def test_the_nodes_that_fail_most_are_named_first(page) -> None:
    groups = [
        group("gpu_07", 15, of_node=17),
        group("gpu_07", 2, "other", of_node=17),
        group("gpu_02", 3, of_node=6),
    ]
    text = await page(groups, {"gpu_07": "ACTIVE"})
    line = re.sub(r"<[^>]*>", "", text.partition("Most:")[2].partition("</p>")[0])
    assert line.strip() == "gpu_07 17 of 40 (The node), gpu_02 6"
    assert "（节点问题）" in await page(groups, {"gpu_07": "ACTIVE"}, "zh")


async def test_failures_in_groups_that_are_left_out_count_too(page) -> None:
    text = await page([group("gpu_07", 17, of_signature=30, of_all=1900, signatures=300)], {})
    assert "1,900 failed attempts" in text
    assert "30 failures" in text
    assert "299 rarer signatures are left out" in text


async def test_a_retry_says_where_it_stops(page) -> None:
    lost = [f"t{n}" for n in range(100)]
    assert "Of each node 100 at most" in await page([group("gpu_07", 170, lost=170, lost_ids=lost)], {})
    assert "Of each node 100 at most" not in await page([group("gpu_07", 100, lost=100, lost_ids=lost)], {})


async def test_a_verdict_on_the_task_leads_to_its_callers(page) -> None:
    text = await page([group("gpu_07", 5, alike=5), group("gpu_02", 5, alike=5)], {})
    assert "Affected tasks" in text
    assert "/fault" not in text
