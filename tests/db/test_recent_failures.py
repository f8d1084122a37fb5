"""The failures of the last day: grouped by what they say, with what else happened on the nodes."""

from __future__ import annotations

import pytest

from infra.db.attempts import queries as attempts
from infra.db.attempts import recent_failures
from infra.db.ops import api_keys, audit
from infra.db.ops.audit import Action, Actor
from infra.db.webhooks import deliveries
from tests.db import rows
from tests.db.life import Life
from workflows.domain.attempt import Outcome
from workflows.domain.fault_attribution import Record


async def test_failures_of_one_signature_are_a_group(life: Life) -> None:
    await life.node("bad", [1])
    for number in range(3):
        await life.create(f"t{number}", max_retries=3)
        await life.fail_everywhere(
            f"t{number}", f"CUDA error 700 at 0x7f3{number} in task_{number}ab12c, step {number}/50"
        )
    await life.node("good", [1])
    for number in range(3):
        await life.create(f"ok{number}")
        await life.do("UPDATE gpus SET not_before = NULL")
    (group,) = await recent_failures.groups(life.connection)
    assert (group.signature, group.outcome, group.gpu_id, group.task_type) == (
        "CUDA error 700 at # in #, step #/#", "FAILED", "bad", 1
    )  # fmt: skip
    assert (group.failures, group.tasks, group.alike, group.lost, group.task_id) == (3, 3, 0, 0, "t2")
    assert await recent_failures.records(life.connection, ["bad"], [1]) == {("bad", 1): Record(3, 3)}


@pytest.mark.parametrize(
    ("reason", "signature"),
    [
        ("out of memory: 12345 MiB  of 24576", "out of memory: # MiB of #"),
        ("exit code 137", "exit code 137"),
        ("errno=28 on /tmp/x9", "errno=28 on /tmp/x#"),
        ("id 0b4e8c1e-8a1f-4c0e-9f55-000000000001 is gone", "id # is gone"),
        ("gpu_07 deadbeef decade1 facade", "gpu_# deadbeef decade# facade"),
        (None, ""),
    ],
)
async def test_a_signature_is_without_numbers_and_ids(life: Life, reason: str | None, signature: str) -> None:
    await rows.task(life.connection, "t")
    await rows.attempt(life.connection, "t", closed_at=rows.NOW, outcome="FAILED", reason=reason)
    (group,) = await recent_failures.groups(life.connection)
    assert group.signature == signature


async def test_tasks_that_fail_alike_elsewhere_and_those_that_are_lost(life: Life) -> None:
    await life.node("a", [1])
    await life.node("b", [1])
    await life.create("everywhere", max_retries=1)
    assert len(set(await life.fail_everywhere("everywhere", "no such file 1", "no such file 2"))) == 2
    await rows.task(life.connection, "ancient")
    await rows.attempt(
        life.connection, "ancient", closed_at=rows.Sql("clock_timestamp() - interval '25 h'"), outcome="FAILED"
    )
    found = await recent_failures.groups(life.connection)
    assert [(one.gpu_id, one.failures, one.alike, one.lost) for one in sorted(found, key=lambda one: one.gpu_id)] == [
        ("a", 1, 1, 1), ("b", 1, 1, 1)
    ]  # fmt: skip
    assert {one.gpu_id: one.lost_ids for one in found} == {"a": ["everywhere"], "b": ["everywhere"]}


async def test_groups_that_are_left_out_are_counted(life: Life) -> None:
    kinds = recent_failures.MOST_GROUPS + 50
    await life.do("""
        INSERT INTO tasks (task_id, task_type, status, user_id, app, priority, queue_class, payload, timeout_ms,
                           max_retries, queue_rank, completed_at)
        SELECT 't' || n, 1, 'COMPLETED', 'u', 'a', 1, 0, '{}', 1, 0, n, clock_timestamp()
          FROM generate_series(1, 260) n""")
    await life.do(f"""
        INSERT INTO attempts (task_id, attempt, gpu_id, gpu_epoch, slot, token, ip, port, closed_at, outcome, reason,
                              released_at)
        SELECT 't' || n, 1, 'g' || mod(n, 2), 1, 1, 't' || n, 'h', 1, clock_timestamp(), 'FAILED',
               translate(mod(n, {kinds})::text, '0123456789', 'klmnopqrst'), clock_timestamp()
          FROM generate_series(1, 260) n""")
    found = await recent_failures.groups(life.connection)
    assert len(found) == recent_failures.MOST_GROUPS
    assert {(one.of_all, one.signatures) for one in found} == {(260, kinds)}
    assert {one.gpu_id: one.of_node for one in found} == {"g0": 130, "g1": 130}
    assert {one.of_signature for one in found} == {1, 2}


async def test_only_failures_are_read(life: Life) -> None:
    await life.do("SET LOCAL enable_seqscan = off")
    plan = "".join(await life.connection.all(str, f"EXPLAIN {recent_failures._GROUPS}"))
    assert "ix_attempts_failed" in plan
    assert "pk_tasks" in plan
    values = {"gpu_ids": ["a"], "task_types": [1]}
    plan = "".join(await life.connection.all(str, f"EXPLAIN {recent_failures._RECORDS}", values))
    assert "ix_attempts_compared" in plan
    assert "pk_tasks" in plan


async def test_the_attempts_of_a_task(life: Life) -> None:
    await life.node("a", [1])
    await life.create("t")
    await life.fail_everywhere("t", "boom")
    await life.do("UPDATE gpus SET not_before = NULL")
    assert await life.claim("t") == "a"
    second, first = await attempts.of_task(life.connection, "t", limit=10)
    assert (second.attempt, second.outcome, first.outcome, first.reason) == (2, None, Outcome.FAILED, "boom")
    assert [one.attempt for one in await attempts.of_task(life.connection, "t", limit=1)] == [2]


async def test_deliveries_audit_and_keys_in_pages(life: Life) -> None:
    by = Actor("k", "me", "admin")
    for number in range(3):
        await audit.record(life.connection, by, Action.GPU_DRAIN, f"g{number}")
    newest, middle = await audit.before(life.connection, {}, None, limit=2)
    assert [newest.subject, middle.subject] == ["g2", "g1"]
    assert [one.subject for one in await audit.before(life.connection, {"owner": "me"}, middle.id, limit=9)] == ["g0"]
    assert await audit.before(life.connection, {"owner": "you"}, None, limit=9) == []
    assert await deliveries.of_task(life.connection, "t", None, limit=5) == []
    keys, total = await api_keys.page(life.connection, limit=1, offset=0)
    assert len(keys) == min(total, 1)
