"""The console's pages of the nodes and of one node."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from api.console.pages import fleet, node
from infra.db.nodes.fleet import FleetNode, HeldSlot
from infra.db.nodes.queries import GoneNode
from tests.unit.console_rows import AT, asked, html_of, node_of


async def test_a_node_that_is_gone_is_shown_without_actions() -> None:
    gone = GoneNode(**node_of("g").__dict__, gone_at=AT)
    text = await html_of(node.PAGE, asked([(gone, AT, [])], {"gpu_id": "g"}))
    assert "Gone" in text
    assert "deregistered" in text
    assert "data-call" not in text
    assert "data-call" in await html_of(node.PAGE, asked([(node_of("g"), AT, [])], {"gpu_id": "g"}))


async def test_the_picture_of_a_node_stays_for_some_seconds() -> None:
    at = datetime(2026, 1, 1, 12, 0, 0, 1, UTC)
    ends = {node._ceiling(at + timedelta(seconds=s), timedelta(seconds=5)) for s in (0, 1, 4.9)}
    assert ends == {datetime(2026, 1, 1, 12, 0, 5, tzinfo=UTC)}


async def test_a_node_of_very_many_slots_is_a_short_row() -> None:
    large = FleetNode("g", "h", "ACTIVE", [2], "NORMAL", 1024, 1024, AT, False, None, None, False)
    text = await html_of(fleet.PAGE, asked([([large], {})]))
    row = text.partition('id="n-g"')[2].partition("</div>")[0]
    assert row.count('<i class="s"') == 64
    assert "+960" in row
    assert "0 of 1,024 slots used" in text


async def test_a_square_says_in_words_what_its_slot_does() -> None:
    busy = FleetNode("g", "h", "ACTIVE", [2], "NORMAL", 4, 4, AT, False, None, None, False)
    held = [HeldSlot("g", n, f"t{n}", progress, n == 3) for n, progress in ((1, None), (2, 47), (3, 5))]
    text = await html_of(fleet.PAGE, asked([([busy], {"g": held})]))
    assert re.findall(r'title="([^"]* · t\d)"', text) == [
        "Running · t1",
        "Running · 40 % · t2",
        "its process is being stopped · t3",
    ]


@pytest.mark.parametrize(
    ("takes", "status", "draining", "rests", "used", "free"),
    [
        (4, "ACTIVE", False, False, "2 of 4", 2),
        (1, "ACTIVE", False, False, "1 of 1", 0),  # it runs a probe, and what ran before
        (4, "ACTIVE", False, True, "2 of 4", 0),
        (4, "ACTIVE", True, False, "0 of 0", 0),
        (4, "OFFLINE", False, False, "0 of 0", 0),
    ],
)
async def test_the_slots_of_a_group_are_those_that_take_work(
    takes: int, status: str, draining: bool, rests: bool, used: str, free: int
) -> None:
    one = FleetNode("g", "h", status, [2], "NORMAL", 4, takes, AT, draining, None, None, rests)
    held = [HeldSlot("g", n, f"t{n}", None, False) for n in (1, 3)]
    text = await html_of(fleet.PAGE, asked([([one], {"g": held})]))
    assert f"{used} slots used" in text
    row = text.partition('id="n-g"')[2].partition("</div>")[0]
    assert (row.count('<i class="s"></i>'), row.count('<i class="s off"></i>')) == (free, 2 - free)


async def test_a_node_s_facts_come_before_its_slots() -> None:
    text = await html_of(node.PAGE, asked([(node_of("g"), AT, [])], {"gpu_id": "g"}))
    assert text.index('id="facts"') < text.index('id="lanes"') < text.index('id="attempts"')
