"""Which attempts the timeline of a node reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from infra.db.attempts import of_node
from tests.db import rows


async def test_a_look_into_the_past_reads_what_ran_then(connection):
    """An attempt that ended later is read only if it can have begun before."""
    await connection.execute(rows.EMPTY)
    await rows.node(connection, "g")
    until = datetime(2026, 1, 2, tzinfo=UTC)
    minutes = {"before": (-90, -61), "into": (-90, -59), "in": (-30, -20), "out": (-1, 60), "after": (1, 2)}
    for number, (name, (begins, ends)) in enumerate(minutes.items()):
        await rows.task(connection, name)
        at = {"claimed_at": until + timedelta(minutes=begins), "closed_at": until + timedelta(minutes=ends)}
        await rows.attempt(connection, name, slot=number + 1, outcome="SUCCEEDED", **at)
    found = await of_node.within(connection, "g", until - timedelta(hours=1), until)
    assert [one.task_id for one in found] == ["out", "in", "into"]
