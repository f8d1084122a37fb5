"""The trigger that writes deliveries, and what is taken of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from activities import webhooks
from infra.db.access.callers import Caller
from infra.db.session import Database
from infra.db.tasks import queries as task_queries
from infra.db.transactions import change_webhook, retry_task
from infra.db.webhooks import deliveries, due, subscriptions
from infra.db.webhooks.subscriptions import MOST, NewWebhook
from infra.webhooks import signing
from infra.webhooks.tries import OF_OWNER, Tries
from tests.db import rows
from tests.db.sessions import Session
from workflows.domain.errors import NotInThisState, TooManySecrets, TooManyWebhooks
from workflows.domain.role import Role

BY = Caller("k", Role.USER, "u", "k")
KEY = (
    "INSERT INTO api_keys (key_id, key_hash, role, owner, lineage)"
    " VALUES ('hooks_' || %(owner)s, %(owner)s, 'user', %(owner)s, 'k') ON CONFLICT DO NOTHING"
)


@pytest.fixture(autouse=True)
async def nothing(database: Database) -> AsyncIterator[None]:
    async def empty(c: Any) -> None:
        await c.execute(rows.EMPTY)
        await c.execute("TRUNCATE webhooks, webhook_secrets, deliveries")
        for owner in ("u", "v"):
            await c.execute(KEY, {"owner": owner})

    await database.run(empty)
    yield
    await database.run(empty)
    await database.run(lambda c: c.execute("DELETE FROM api_keys WHERE key_id LIKE 'hooks\\_%%'"))


def webhook(name: str, owner: str = "u", *, url: str | None = "https://a.example/", **more: Any) -> NewWebhook:
    chosen: dict[str, Any] = {"lineage": f"k_{owner}", "sees_all": False, "events": ["task.ended"], "description": None}
    return NewWebhook(name, owner, url=url, secret=signing.new_secret(), **chosen | more)


async def make(database: Database, *made: NewWebhook) -> None:
    for one in made:
        await database.run(lambda c, one=one: change_webhook.create(c, BY, one))  # type: ignore[misc]


async def log(database: Database, *events: dict[str, Any]) -> None:
    """Events, written in one statement."""
    usual = {"type": "task.ended", "task_id": None, "user_id": None, "lineage": None}
    values = [usual | event for event in events]
    listed = ", ".join(
        f"(event_stamp(), %(type{n})s, %(task_id{n})s, %(user_id{n})s, %(lineage{n})s, '{{}}')"
        for n in range(len(values))
    )
    bound = {f"{name}{n}": value for n, one in enumerate(values) for name, value in one.items()}
    statement = f"INSERT INTO event_log (xid, type, task_id, user_id, lineage, data) VALUES {listed}"
    await database.run(lambda c: c.execute(statement, bound))


async def targets(database: Database) -> list[str]:
    return await database.run(lambda c: c.all(str, "SELECT webhook_id FROM deliveries ORDER BY delivery_id"))


async def test_an_event_is_for_those_that_may_see_it_and_asked_for_it(database: Database) -> None:
    await make(
        database,
        webhook("mine"), webhook("theirs", "v"), webhook("all", "op", sees_all=True),
        webhook("other", events=["task.created"]), webhook("created_it", "v", lineage="acts"),
    )  # fmt: skip
    await log(database, {"user_id": "u", "lineage": "acts"})
    assert sorted(await targets(database)) == ["all", "created_it", "mine"]


async def test_nobody_gets_one_event_twice_and_nodes_are_for_operators(database: Database) -> None:
    await make(database, webhook("mine", lineage="acts"), webhook("all", "op", sees_all=True, events=["node.gone"]))
    await log(database, {"user_id": "u", "lineage": "acts"}, {"type": "node.gone"})
    assert sorted(await targets(database)) == ["all", "mine"]


async def test_a_rolled_back_event_has_no_delivery(database: Database, connection: Session) -> None:
    await make(database, webhook("mine"))
    statement = "INSERT INTO event_log (xid, type, user_id, data) VALUES (event_stamp(), 'task.ended', 'u', '{}')"
    await connection.execute(statement)
    assert await connection.scalar("SELECT count(*) FROM deliveries") == 1
    await connection.rollback()
    assert await targets(database) == []


async def test_a_disabled_or_deleted_webhook_gets_nothing(database: Database) -> None:
    await make(database, webhook("disabled"), webhook("deleted"))
    await database.run(lambda c: change_webhook.disable(c, BY, "disabled", "410"))
    await database.run(lambda c: change_webhook.delete(c, BY, "deleted"))
    await log(database, {"user_id": "u"})
    assert await targets(database) == []


async def test_what_is_taken_is_kept_as_it_was(database: Database) -> None:
    await make(database, webhook("mine"))
    await log(database, {"user_id": "u", "task_id": "t"})
    first = await database.run(lambda c: due.take(c, "mine", [], Tries()))
    again = await database.run(lambda c: due.take(c, "mine", [], Tries()))
    assert first.due == again.due
    (one,) = first.due
    assert one.event_id.encode() in one.body
    assert (await database.run(lambda c: due.take(c, "mine", [one.delivery_id], Tries()))).due == []
    tries = Tries()
    while tries.reserve("u", "mine", "a.example"):
        assert len((await database.run(lambda c: due.take(c, "mine", [], tries))).due) <= 1
    assert tries.full_hosts("u") == ["a.example"]
    assert (await database.run(lambda c: due.take(c, "mine", [], tries))).due == []


async def test_an_outcome_is_noted_once(database: Database) -> None:
    await make(database, webhook("mine"))
    await log(database, {"user_id": "u"})
    ((one),) = (await database.run(lambda c: due.take(c, "mine", [], Tries()))).due

    async def note(**more: Any) -> bool:
        values: dict[str, Any] = {"status": 500, "error": None, "wait_s": 60.0}
        return await database.run(lambda c: due.note(c, one.delivery_id, one.tries, **values | more))

    assert await note()
    assert not await note(accepted=True)
    assert 50 < (await database.run(lambda c: due.leave(c, "mine")) or 0) <= 60


async def test_each_host_gets_its_share(database: Database) -> None:
    await database.run(lambda c: change_webhook.set_secret_of_tasks(c, BY, webhook("tasks", url=None)))
    add = (
        "INSERT INTO deliveries (webhook_id, event_id, body, url, next_try_at)"
        " SELECT 'tasks', 'evt_' || n, '{}', %(url)s, clock_timestamp() FROM generate_series(1, 50) n"
    )
    for url in ("https://a.example/x", "https://[2606:4700::1]:443/y"):
        await database.run(lambda c, url=url: c.execute(add, {"url": url}))  # type: ignore[misc]
    hosts = [one.host for one in (await database.run(lambda c: due.take(c, "tasks", [], Tries()))).due]
    assert (hosts.count("a.example"), hosts.count("[2606:4700::1]")) == (due.AT_ONCE, due.AT_ONCE)


async def test_no_more_is_taken_than_may_be_sent(database: Database) -> None:
    await database.run(lambda c: change_webhook.set_secret_of_tasks(c, BY, webhook("tasks", url=None)))
    add = (
        "INSERT INTO deliveries (webhook_id, event_id, url, body, next_try_at) SELECT 'tasks', 'evt_' || n, "
        "'https://' || n || '.example/', '{}', clock_timestamp() FROM generate_series(1, 500) n"
    )
    await database.run(lambda c: c.execute(add))
    tries = Tries()

    async def taken(*before: int) -> list[int]:
        found = (await database.run(lambda c: due.take(c, "tasks", before, tries))).due
        assert len(found) == min(due.MOST, tries.room("u", "tasks"))
        assert all(tries.reserve("u", "tasks", one.host) for one in found)
        return [one.delivery_id for one in found]

    first = await taken()
    second = await taken(*first)
    assert len({*first, *second}) == OF_OWNER - OF_OWNER // 4
    assert await taken(*first, *second) == []


async def test_the_leader_finds_what_is_due_and_not_attended(database: Database) -> None:
    await make(database, webhook("mine"))

    async def unattended() -> list[str]:
        return await database.run(lambda c: due.unattended(c, 10))

    assert await unattended() == []
    await log(database, {"user_id": "u"})
    assert await unattended() == ["mine"]
    assert await unattended() == []
    await database.run(lambda c: due.leave(c, "mine"))
    assert await unattended() == ["mine"]
    await database.run(lambda c: due.take(c, "mine", [], Tries()))
    assert await unattended() == []


async def test_a_webhook_without_a_live_key_is_disabled_with_an_entry_in_the_audit_log(database: Database) -> None:
    await make(database, webhook("all", "u", sees_all=True))
    await log(database, {})
    sender: Any = SimpleNamespace(tries=Tries())
    await webhooks._Turn(database, sender, (), "all").run()  # a user's key is not enough
    found = await database.run(lambda c: subscriptions.get(c, "all"))
    assert found is not None
    assert (found.state, found.disabled_because) == ("DISABLED", "KEY")
    assert await database.run(lambda c: due.end(c, "all")) == 0  # the turn has given up what was left
    entries = "SELECT owner || ' ' || subject || ' ' || detail FROM audit_log WHERE action = 'webhook.disable'"
    assert await database.run(lambda c: c.all(str, entries)) == ["system all KEY"]


async def test_limits(database: Database) -> None:
    await make(database, *(webhook(f"w{n}") for n in range(MOST)))
    with pytest.raises(TooManyWebhooks):
        await make(database, webhook("more"))
    for _ in range(subscriptions.MOST_SECRETS - 1):
        await database.run(lambda c: change_webhook.rotate(c, BY, "w0", signing.new_secret()))
    assert len(await database.run(lambda c: subscriptions.secrets(c, "w0"))) == subscriptions.MOST_SECRETS
    with pytest.raises(TooManySecrets):
        await database.run(lambda c: change_webhook.rotate(c, BY, "w0", signing.new_secret()))


async def test_a_result_that_is_purged_is_not_sent_as_null(database: Database) -> None:
    await make(database, webhook("mine"))

    async def ended(c: Any) -> None:
        await rows.node(c, "g")
        await rows.task(c, "t", user_id="u")
        await rows.attempt(c, "t", gpu_id="g", attempt=1)
        await c.execute("INSERT INTO task_results (task_id, attempt, gpu_id, result) VALUES ('t', 1, 'g', 'null')")
        await c.execute("UPDATE tasks SET purged_at = clock_timestamp() WHERE task_id = 't'")

    await database.run(ended)
    await log(database, {"user_id": "u", "task_id": "t"})
    (one,) = (await database.run(lambda c: due.take(c, "mine", [], Tries()))).due
    assert b'"data":{}' in one.body


async def test_a_disabled_secret_is_known_and_a_new_one_enables_it(database: Database) -> None:
    new = webhook("tasks", url=None)
    assert await database.run(lambda c: change_webhook.set_secret_of_tasks(c, BY, new)) == "tasks"

    async def task(c: Any) -> None:
        ended = {"status": "FAILED", "completed_at": rows.NOW}
        await rows.task(c, "t", webhook="https://a.example/", webhook_id="tasks", **ended)

    await database.run(task)

    async def states() -> tuple[Any, Any]:
        signer = await database.single(lambda c: subscriptions.of_tasks(c, "u"))
        original = await database.single(lambda c: task_queries.original(c, "t"))
        assert signer is not None
        assert original is not None
        if original.webhook_state == "ACTIVE":
            retry_task.check(original)
            assert retry_task.again("t", original, BY, None).webhook_id == "tasks"
        else:
            with pytest.raises(NotInThisState, match="webhook"):
                retry_task.check(original)
        return (signer.state, signer.disabled_because), original.webhook_state

    assert await states() == (("ACTIVE", None), "ACTIVE")
    await database.run(lambda c: change_webhook.disable(c, BY, "tasks", "KEY"))
    assert await states() == (("DISABLED", "KEY"), "DISABLED")
    assert await database.run(lambda c: change_webhook.set_secret_of_tasks(c, BY, new)) == "tasks"
    assert await states() == (("ACTIVE", None), "ACTIVE")


async def test_a_replay_takes_events_by_the_time_that_they_show(database: Database) -> None:
    """Whole milliseconds, both ends among them."""
    await make(database, webhook("w"))
    await log(database, {"user_id": "u"})
    at = await database.run(lambda c: c.one(datetime, "SELECT date_trunc('milliseconds', at) FROM event_log"))

    async def replayed(since: int, until: int) -> int | None:
        first, last = (at + timedelta(milliseconds=ms) for ms in (since, until))
        await sent(database)
        return await database.run(lambda c: deliveries.replay_range(c, "w", first, last, failed_only=False))

    assert [await replayed(*span) for span in ((0, 0), (-1, -1), (1, 1), (-1, 0), (0, 1))] == [1, 0, 0, 1, 1]


async def sent(database: Database, state: str = "DELIVERED") -> None:
    update = "UPDATE deliveries SET state = %(state)s, tries = 10, next_try_at = NULL"
    await database.run(lambda c: c.execute(update, {"state": state}))


@pytest.mark.parametrize(("state", "failed", "first"), [("DELIVERED", False, 3), ("DEAD", False, 3), ("DEAD", True, 3),
                                                        ("DELIVERED", True, 0)])  # fmt: skip
async def test_a_repeated_replay_changes_nothing(database: Database, state: str, failed: bool, first: int) -> None:
    await make(database, webhook("w"))
    await log(database, *[{"user_id": "u"}] * 3)
    await sent(database, state)

    async def replayed() -> int:
        span = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC))
        return await database.run(lambda c: change_webhook.replay_range(c, BY, "w", *span, failed_only=failed))

    times = "SELECT next_try_at FROM deliveries WHERE state = 'PENDING' ORDER BY delivery_id"
    assert await replayed() == first
    before = await database.run(lambda c: c.all(datetime, times))
    assert (len(before), await replayed()) == (first, 0)
    assert await database.run(lambda c: c.all(datetime, times)) == before


async def test_beyond_what_is_counted_there_is_no_page(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await make(database, webhook("w"))
    await log(database, *[{"user_id": "u"}] * 4)
    monkeypatch.setattr(deliveries, "MOST_COUNTED", 2)
    for offset, shown in ((0, 2), (1, 2), (2, 0), (3, 0)):
        found, total = await database.run(lambda c, o=offset: deliveries.page(c, "w", limit=2, offset=o))  # type: ignore[misc]
        assert (len(found), total) == (shown, 3)
