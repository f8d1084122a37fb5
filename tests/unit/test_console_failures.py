"""Failures: what its buttons are about, which node fails most, and counts that groups left out do not change."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from starlette.datastructures import QueryParams

from api.console.page import Asked
from api.console.pages import failures
from infra.db.access.callers import Caller
from infra.db.attempts import comparison, recent_failures
from infra.db.attempts.recent_failures import FailedAttempt
from infra.db.nodes import queries as node_queries
from tests.unit.console_rows import html_of
from workflows.domain import fault_attribution
from workflows.domain.fault_attribution import Comparison, Record, signature
from workflows.domain.role import Role

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
GOOD = {(2, "app:a"): Record(100, 1)}


def failed(gpu_id: str, n: int, reason: str = "boom", **more: Any) -> list[FailedAttempt]:
    """`n` tasks that failed there and were completed elsewhere."""
    values: dict[str, Any] = {
        "gpu_id": gpu_id, "outcome": "FAILED", "reason": reason, "attributed": True, "closed_at": AT, "task_type": 2,
        "status": "COMPLETED", "ended_on": "gpu_99",
    }  # fmt: skip
    return [FailedAttempt(**{"task_id": f"{gpu_id} {number} {reason}"} | values | more) for number in range(n)]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Render the page of these failures, with these statuses of nodes."""

    async def rendered(found: list[FailedAttempt], states: dict[str, str], language: str = "en") -> str:
        compared = {one.gpu_id: Comparison({(2, "app:a"): Record(17, 17)}, GOOD) for one in found}
        monkeypatch.setattr(recent_failures, "read", AsyncMock(return_value=found))
        monkeypatch.setattr(comparison, "with_peers", AsyncMock(return_value=compared))
        monkeypatch.setattr(node_queries, "states", AsyncMock(return_value=states))
        context = MagicMock()

        async def read(work: Any) -> Any:
            return await work(None)

        context.database.single = read
        asked = Asked(context, Caller("k", Role.ADMIN, "o", "k"), {}, QueryParams(""), language)
        return await html_of(failures.PAGE, asked)

    return rendered


def ids(text: str, kind: str) -> list[str]:
    return re.findall(rf'<(?:section|tr)[^>]* id="({kind}-[0-9a-f]+)"', text)


async def test_what_is_sorted_again_keeps_its_ids(page) -> None:
    """An element that is reused for another failure would do to its node what was meant for the first one's."""
    first = await page(failed("gpu_07", 17) + failed("gpu_07", 9, "other"), {"gpu_07": "ACTIVE"})
    then = await page(failed("gpu_07", 17) + failed("gpu_07", 19, "other"), {"gpu_07": "ACTIVE"})
    for kind in ("s", "r"):
        assert ids(first, kind) == ids(then, kind)[::-1]
        assert len(set(ids(first, kind))) == 2
    assert 'data-ask="Mark gpu_07 as faulty?"' in first


async def test_a_row_about_another_node_is_another_row(page) -> None:
    assert ids(await page(failed("gpu_07", 17), {}), "r") != ids(await page(failed("gpu_09", 17), {}), "r")


@pytest.mark.parametrize(("states", "word"), [({"gpu_07": "FAULTY"}, "Faulty"), ({}, "Gone")])
async def test_a_node_that_is_faulty_or_gone_is_not_faulted_again(page, states: dict[str, str], word: str) -> None:
    """The way back would recover what another person has set."""
    text = await page(failed("gpu_07", 17), states)
    assert "/fault" not in text
    assert "/recover" not in text
    assert word in text.partition("Last task")[2].partition("</tr>")[0]


async def test_the_nodes_that_fail_most_are_named_first(page) -> None:
    found = failed("gpu_07", 15) + failed("gpu_07", 2, "other") + failed("gpu_02", 3)
    text = await page(found, {"gpu_07": "ACTIVE"})
    line = re.sub(r"<[^>]*>", "", text.partition("Most:")[2].partition("</p>")[0])
    assert line.strip() == "gpu_07 17 of 20 (The node), gpu_02 3"
    assert "（节点问题）" in await page(found, {"gpu_07": "ACTIVE"}, "zh")


async def test_failures_that_are_not_shown_count_too(page) -> None:
    rare = [one for n in range(50) for one in failed("gpu_07", 2, "ab"[n % 2] * n)]
    kinds = [one for n in range(failures.MOST_TYPES + 2) for one in failed("gpu_07", 3, "boom", task_type=n)]
    text = await page(rare + kinds, {})
    assert f"{len(rare + kinds)} failed attempts" in text
    assert f"{len(kinds)} failures" in text
    assert len(re.findall(r"Type \d+</a>", text)) == failures.MOST_SHOWN - 1 + failures.MOST_TYPES
    assert f"{51 - failures.MOST_SHOWN} rarer signatures are left out" in text


async def test_a_retry_says_where_it_stops(page) -> None:
    assert "Of each node 100 at most" in await page(failed("gpu_07", 101, status="FAILED"), {})
    assert "Of each node 100 at most" not in await page(failed("gpu_07", 100, status="FAILED"), {})
    assert "Of each node 100 at most" not in await page(failed("gpu_07", 101), {})


async def test_tasks_that_fail_alike_elsewhere(page) -> None:
    """Alike as a task's judge sees it: a number in the reason makes no other failure, that of an error does."""
    everywhere = [
        one for node in ("gpu_07", "gpu_02") for n in range(4) for one in failed(node, 1, f"step {n}", task_id=f"t{n}")
    ]
    text = await page(everywhere, {})
    assert "The same tasks fail in the same way" in text
    assert "Affected tasks" in text
    assert "/fault" not in text
    by_error = failed("gpu_07", 1, "error 1", task_id="t") + failed("gpu_02", 1, "error 2", task_id="t")
    assert len(ids(await page(by_error, {}), "s")) == 2


async def test_long_reasons_are_not_read_on_the_loop(page, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def read(reason: str) -> str:
        threads.append(threading.current_thread())
        return signature(reason)

    monkeypatch.setattr(fault_attribution, "signature", read)
    await page([one for n in range(500) for one in failed("gpu_07", 1, f"{n:b} " * 100)], {})
    assert threads.count(threading.main_thread()) < 100 < 500 <= len(threads)
