"""Groups: kept counts for each owner and for all, and the last waiting task of each type."""

from __future__ import annotations

from infra.db.ops import counters
from infra.db.tasks import groups
from tests.db import rows
from tests.db.life import Life


async def test_the_counts_of_a_group_follow_its_tasks(life: Life) -> None:
    connection = life.connection
    for number in range(4):
        await rows.task(connection, f"u{number}", group_id="g", task_type=number % 2)
    await rows.task(connection, "other", group_id="g", user_id="someone")
    await rows.task(connection, "none")
    await life.do("UPDATE tasks SET status = 'FAILED', completed_at = clock_timestamp() WHERE task_id = 'u0'")
    await life.do("DELETE FROM tasks WHERE task_id = 'u1'")
    assert await counters.of_group(connection, "g", "u") == {(0, "FAILED"): 1, (0, "QUEUED"): 1, (1, "QUEUED"): 1}
    assert sum((await counters.of_group(connection, "g", None)).values()) == 4
    assert await counters.of_group(connection, "none", None) == {}
    await counters.fold(connection)
    assert [one for one in await counters.recount(connection) if "group" in one] == []


async def test_no_owner_s_group_is_another_s(life: Life) -> None:
    """However ids are cut: the length of the owner's says where the group's begins."""
    await rows.task(life.connection, "t", user_id="a b", group_id="c")
    assert await counters.of_group(life.connection, "b c", "a") == {}
    assert await counters.of_group(life.connection, "c", "a b") == {(1, "QUEUED"): 1}


async def test_a_count_of_a_group_that_is_wrong_is_corrected(life: Life) -> None:
    await life.do("TRUNCATE counters")
    await rows.task(life.connection, "t", group_id="g")
    await life.do("UPDATE counter_deltas SET n = 3 WHERE counter LIKE '%%group:%%'")
    assert sorted(await counters.recount(life.connection)) == ["group:g 1 QUEUED: -2", "user_group:1:u g 1 QUEUED: -2"]


async def test_the_last_of_each_type_is_found_by_the_order_of_the_queue(life: Life) -> None:
    more = {"group_id": "g", "waiting_since": rows.NOW}
    for rank, task_id in enumerate(("first", "second", "last")):
        await rows.task(life.connection, task_id, queue_rank=rank, **more)
    await rows.task(life.connection, "vip", queue_rank=9, queue_class=1, **more)
    await rows.task(life.connection, "theirs", queue_rank=9, user_id="x", **more)
    await rows.task(life.connection, "of no group", queue_rank=9, waiting_since=rows.NOW)
    found = await groups.last_waiting(life.connection, "g", "u", [1, 2])
    assert {task_type: (one.queue_rank, one.vip) for task_type, one in found.items()} == {1: (2.0, False)}
    assert (await groups.last_waiting(life.connection, "g", None, [1]))[1].queue_rank == 9.0


async def test_it_is_read_from_its_index(life: Life) -> None:
    await rows.task(life.connection, "t", group_id="g", waiting_since=rows.NOW)
    await rows.crowd(life.connection)
    values = {"task_types": [1], "group_id": "g", "user_id": "u"}
    plan = "".join(await life.connection.all(str, f"EXPLAIN {groups._LAST}", values))
    assert "ix_tasks_group_queue" in plan
    assert "Sort" not in plan
