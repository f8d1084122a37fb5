"""The failures of the last day, and how nodes compare with their peers."""

from __future__ import annotations

from infra.db.access import api_keys, audit
from infra.db.access.audit import Action, Actor
from infra.db.attempts import comparison, recent_failures
from infra.db.attempts import queries as attempts
from infra.db.webhooks import deliveries
from tests.db import rows
from tests.db.life import Life
from workflows.domain.attempt import Outcome
from workflows.domain.fault_attribution import Comparison, Record


async def test_the_failures_of_the_last_day_and_how_their_tasks_went_on(life: Life) -> None:
    await life.node("a", [1])
    await life.node("b", [1])
    await life.create("everywhere", max_retries=1)
    nodes = await life.fail_everywhere("everywhere", "no such file 1", "no such file 2")
    await rows.task(life.connection, "ancient")
    await rows.attempt(
        life.connection, "ancient", closed_at=rows.Sql("clock_timestamp() - interval '25 h'"), outcome="FAILED"
    )
    found = await recent_failures.read(life.connection)
    assert [(one.gpu_id, one.reason, one.status) for one in found] == [
        (nodes[1], "no such file 2", "FAILED"), (nodes[0], "no such file 1", "FAILED")
    ]  # fmt: skip
    assert {one.way for one in found} == {(Outcome.FAILED, "no such file #")}
    assert [one.attributed for one in found] == [False, True]


async def test_a_node_is_compared_by_kinds_and_what_nobody_completes_is_apart(life: Life) -> None:
    await life.node("bad", [1])
    await life.create("lost", max_retries=0)
    await life.fail_everywhere("lost", "boom")
    await life.create("done", max_retries=3)
    await life.fail_everywhere("done", "boom")
    await life.node("good", [1])
    await life.do("UPDATE gpus SET not_before = clock_timestamp() + interval '50 s' WHERE gpu_id = 'bad'")
    assert await life.claim("done") == "good"
    await life.end("done")
    kind = (1, "app:a")
    assert await comparison.with_peers(life.connection, ["bad", "good", "none"]) == {
        "bad": Comparison({kind: Record(1, 1, 1)}, {kind: Record(1, 0)}),
        "good": Comparison({kind: Record(1, 0)}, {kind: Record(1, 1, 1)}),
        "none": Comparison({}, {}),
    }


async def test_only_failures_are_read(life: Life) -> None:
    await life.do("SET LOCAL enable_seqscan = off")
    plan = "".join(await life.connection.all(str, f"EXPLAIN {recent_failures._FAILED}"))
    assert "ix_attempts_failed" in plan
    assert "pk_tasks" in plan
    plan = "".join(await life.connection.all(str, f"EXPLAIN {comparison._RECORDS}", {"gpu_ids": ["a"]}))
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
