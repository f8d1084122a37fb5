"""Pages of tasks and nodes: every combination of filters, both ends of a long list, and what is too large."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from infra.db.nodes import queries as node_queries
from infra.db.ops import counters, kinds
from infra.db.tasks import lists as task_lists
from infra.db.tasks import queries as task_queries
from infra.db.tasks import timeline
from infra.db.tasks.filters import TaskFilter
from tests.db import rows
from workflows.domain.task import EndReason

ROOM = 1 << 20
USERS, NODES, STATUSES, TYPES = ("u", "v"), ("g", "h", None), ("QUEUED", "PROCESSING"), (1, 2, 3)
ALL = list(product(USERS, NODES, STATUSES, TYPES))


@pytest.fixture
async def some(life, connection):
    """A task of every kind, some of them twice; (display id, kind), the newest first."""
    await connection.execute("TRUNCATE counters, counter_deltas")
    for number, (user_id, gpu_id, status, task_type) in enumerate(ALL + ALL[::3]):
        await rows.task(connection, f"t{number}", user_id=user_id, status=status, task_type=task_type)
        moved = {"gpu_id": gpu_id, "task_id": f"t{number}"}
        await connection.execute("UPDATE tasks SET gpu_id = %(gpu_id)s WHERE task_id = %(task_id)s", moved)
    await counters.fold(connection)
    found = await connection.rows("SELECT * FROM tasks ORDER BY display_id DESC")
    return [(row.display_id, (row.user_id, row.gpu_id, row.status, row.task_type)) for row in found]


async def page(connection, filters, limit=100, offset=0, room=ROOM):
    chosen = TaskFilter(**filters)
    found, total = await task_lists.page(connection, chosen, limit=limit, offset=offset, room=room)
    return [row.display_id for row in found], total


@pytest.mark.parametrize("most", [kinds.MOST, 0])
@pytest.mark.parametrize("far", [task_lists.FAR, 0])
async def test_every_combination_of_filters(connection, some, monkeypatch, far, most):
    """Each combination is read from both ends, of few types and of many."""
    monkeypatch.setattr(task_lists, "FAR", far)
    monkeypatch.setattr(kinds, "MOST", most)
    names = ("user_id", "gpu_id", "status", "task_type")
    for chosen in product((None, "u", "w"), (None, "g", "x"), (None, "QUEUED", "FAILED"), (None, 2, 9)):
        filters = {name: value for name, value in zip(names, chosen, strict=True) if value is not None}
        wanted = [one for one, kind in some if all(a in {None, b} for a, b in zip(chosen, kind, strict=True))]
        assert await page(connection, filters) == (wanted, len(wanted)), filters
        for offset in range(0, len(wanted) + 2, 2):
            assert await page(connection, filters, 3, offset) == (wanted[offset : offset + 3], len(wanted)), filters


async def test_a_task_that_moves_stays_in_the_list(connection, some, monkeypatch):
    """Between the counts, which give the types, and the page."""
    count = counters.tasks_by_kind

    async def count_and_move(*args, **whose):
        kinds = await count(*args, **whose)
        await connection.execute("UPDATE tasks SET status = 'PROCESSING' WHERE status = 'QUEUED'")
        return kinds

    monkeypatch.setattr(counters, "tasks_by_kind", count_and_move)
    wanted = [one for one, kind in some if kind[0] == "u"]
    assert await page(connection, {"user_id": "u"}) == (wanted, len(wanted))


async def test_the_largest_payloads_and_results_stay_where_they_are(life, connection):
    await connection.execute("TRUNCATE counters, counter_deltas")
    done = {"status": "COMPLETED", "completed_at": rows.NOW}
    for number, (payload, result) in enumerate([(10, 500), (600, 20), (30, None), (700, 800)]):
        await rows.task(connection, f"t{number}", payload="é" * (payload // 2), **done)
        if result is not None:
            await rows.attempt(connection, f"t{number}", closed_at=rows.NOW, outcome="SUCCEEDED")
            await connection.execute(
                "INSERT INTO task_results (task_id, attempt, gpu_id, result) VALUES (%(id)s, 1, 'g', %(result)s)",
                {"id": f"t{number}", "result": "r" * result},
            )
    for room, shown in [
        (10_000, [(700, 800), (30, None), (600, 20), (10, 500)]),
        (600, [(None, None), (30, None), (None, 20), (10, 500)]),
        (0, [(None, None)] * 4),
    ]:
        found, _ = await task_lists.page(connection, TaskFilter(), limit=10, offset=0, room=room)
        sizes = [
            tuple(None if part is None else len(part.encode()) for part in (row.payload, row.result)) for row in found
        ]
        assert sizes == shown
        assert [row.has_result for row in found] == [True, False, True, True]


async def test_pages_of_nodes(life, connection):
    for number, size in enumerate([10, 300, 20]):
        types = [1, 2] if number == 1 else [1]
        await rows.node(connection, f"g{number}", metadata='{"a": "' + "x" * (size - 9) + '"}', task_types=types)
    await rows.node(connection, "gone", gone_at=rows.NOW)
    found, total = await node_queries.page(connection, None, limit=2, offset=1, room=100)
    assert [(row.gpu_id, len(row.metadata_json or "")) for row in found] == [("g1", 0), ("g2", 20)]
    assert total == 3
    found, total = await node_queries.page(connection, "nobody's", limit=2, offset=0, room=100)
    assert (found, total) == ([], 0)
    found, total = await node_queries.page(connection, None, 2, "NORMAL", limit=9, offset=0, room=1000)
    assert [(row.gpu_id, len(row.metadata_json or "")) for row in found] == [("g1", 300)]
    assert total == 1
    assert await node_queries.page(connection, None, 2, "VIP", limit=9, offset=0, room=1000) == ([], 0)


async def test_a_timeline_in_pages(life, connection):
    await rows.task(connection, "t", event_seq=3)
    for seq in (1, 2, 3):
        await connection.execute(
            "INSERT INTO task_events (task_id, seq, to_status, actor) VALUES ('t', %(seq)s, 'QUEUED', 'x')",
            {"seq": seq},
        )
    assert [row.seq for row in await timeline.events(connection, "t", limit=2, offset=1)] == [2, 3]
    owner = await task_queries.owner(connection, "t")
    assert owner is not None
    assert (owner.user_id, owner.event_seq) == ("u", 3)
    assert await task_queries.owner(connection, "none") is None


async def test_conditions_that_no_kept_count_knows(life, connection, monkeypatch):
    """Each alone, with others, and where more fit than are counted."""
    await connection.execute("TRUNCATE counters, counter_deltas")
    ended = {"status": "FAILED", "completed_at": rows.NOW}
    for number, columns in enumerate([
        {"app": "x", "group_id": "one"}, {"app": "y", "group_id": "one"}, {"app": "x", **ended},
        {"app": "x", "end_reason": "CANCELLED", **ended}, {"app": "y", "end_reason": "CANCELLED", **ended},
    ]):  # fmt: skip
        at = rows.Sql(f"to_timestamp({number} + 0.0005)")
        await rows.task(connection, f"t{number}", user_id="uv"[number % 2], created_at=at, **columns)
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"app": "x"}, [3, 2, 0]),
        ({"app": "x", "user_id": "v"}, [3]),
        ({"app": "x", "owner": "v"}, [3]),
        ({"app": "x", "owner": "v", "user_id": "u"}, []),
        ({"owner": "v", "user_id": "u"}, []),
        ({"group_id": "one"}, [1, 0]),
        ({"end_reason": EndReason.CANCELLED}, [4, 3]),
        ({"end_reason": EndReason.FAILED}, [2]),
        ({"end_reason": EndReason.CANCELLED, "status": "TIMEOUT"}, []),
        ({"created_after": 2000}, [4, 3]),
        ({"created_after": 1999}, [4, 3, 2]),
        ({"created_before": 2000}, [1, 0]),
        ({"created_before": 2001}, [2, 1, 0]),
        ({"created_after": 500, "created_before": 3500, "status": "FAILED"}, [3, 2]),
        ({"task_ids": ("t4", "t0", "t9")}, [4, 0]),
    ]
    for filters, wanted in cases:
        found, total = await task_lists.page(connection, TaskFilter(**filters), limit=9, offset=0, room=ROOM)
        assert ([row.task_id for row in found], total) == ([f"t{n}" for n in wanted], len(wanted)), filters
    monkeypatch.setattr(task_lists, "MOST_COUNTED", 2)
    chosen = TaskFilter(app="x")
    for offset, shown in ((0, ["t3", "t2"]), (1, ["t2", "t0"]), (2, []), (3, [])):
        found, total = await task_lists.page(connection, chosen, limit=2, offset=offset, room=ROOM)
        assert ([row.task_id for row in found], total) == (shown, 3)
