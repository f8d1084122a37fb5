"""The dispatch secret that goes with an attempt's address."""

from __future__ import annotations

from infra.db.attempts import queries as attempt_queries
from infra.db.nodes.queries import Registration
from infra.db.repair import drift
from infra.db.transactions import node_state, settle_attempt
from infra.nodes.address import NodeAddress
from tests.db.life import Life
from workflows.domain.attempt import End, Outcome

OLD, NEW = "old words", "new words"


async def register(life: Life, port: int, secret: str) -> None:
    node = Registration("n", "h", None, "127.0.0.1", port, [1], "NORMAL", "1", 1, {}, secret, "k")
    await node_state.register(life.connection, node)


async def claim(life: Life) -> None:
    await register(life, 1, OLD)
    await life.create("t")
    assert await life.claim("t") == "n"


async def to_stop(life: Life) -> NodeAddress | None:
    return await attempt_queries.address(life.connection, "t", 1, closed=True)


async def test_a_node_that_has_moved_does_not_show_its_new_secret_at_its_old_address(life: Life) -> None:
    """Somebody else may have rented that by now."""
    await claim(life)
    await register(life, 2, NEW)
    assert await to_stop(life) == NodeAddress("127.0.0.1", 1, None)
    assert await attempt_queries.to_stop_on(life.connection, "n") == []


async def test_nor_does_the_reconciler_show_it_there(life: Life) -> None:
    await claim(life)
    await life.do("UPDATE gpus SET port = 2, dispatch_secret = %(secret)s", secret=NEW)
    (granted,) = await drift.undispatched(life.connection, -1.0)
    await life.do("UPDATE attempts SET accepted_at = clock_timestamp() - interval '1 day'")
    (expired,) = await drift.expired(life.connection, 0, 0, 0)
    assert granted.node == expired.node == NodeAddress("127.0.0.1", 1, None)


async def test_a_node_that_was_restarted_where_it_was_is_shown_its_new_secret(life: Life) -> None:
    await claim(life)
    await register(life, 1, NEW)
    (still_open,) = await attempt_queries.open_on(life.connection, "n")
    assert still_open.node == NodeAddress("127.0.0.1", 1, NEW)
    await settle_attempt.settle(life.connection, "t", 1, End(Outcome.DEREGISTERED, "x"), actor="test")
    (closed,) = await attempt_queries.to_stop_on(life.connection, "n")
    assert closed.node == await to_stop(life) == NodeAddress("127.0.0.1", 1, NEW)
