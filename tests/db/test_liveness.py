"""Believing silence: the fleet guard's numbers, and whether anybody listened."""

from __future__ import annotations

import pytest

from infra.db.nodes import liveness
from infra.db.ops import instances
from infra.db.ops.instances import Load
from tests.db import rows

GRACE_S = 40.0
IDLE = Load(0, 0, 0)


async def hears(connection, since_s: float) -> str:
    """An API process that has listened for `since_s` seconds."""
    instance_id = await instances.join(connection, kind="api", hostname="h", pid=1, version="1")
    ago = "clock_timestamp() - make_interval(secs => %(s)s)"
    await connection.execute(f"UPDATE instances SET listening_since = {ago}", {"s": since_s})
    return instance_id


BEAT = "INSERT INTO gpu_beats (gpu_id, at) VALUES (%(gpu_id)s, clock_timestamp() - make_interval(secs => %(s)s))"


async def fleet(
    connection, silent_s: list[float], status: str = "ACTIVE", *, lineage: str | None = None, beat_for_s: float = 1000
) -> None:
    """Nodes of one key that have beaten for `beat_for_s` seconds, and then stopped."""
    for number, seconds in enumerate(silent_s):
        gpu_id = f"{lineage or status}_{number:02}"
        since = rows.Sql(f"clock_timestamp() - interval '{seconds + beat_for_s} s'")
        gone = rows.NOW if status == "OFFLINE" else since
        await rows.node(connection, gpu_id, status=status, lineage=lineage, registered_at=since, status_since=gone)
        await connection.execute(BEAT, {"gpu_id": gpu_id, "s": seconds})


@pytest.mark.parametrize(
    ("silent_s", "lapsed", "held"),
    [
        ([45], 1, 0),  # a fleet of one
        ([45, 45], 2, 0),
        ([45, 1, 1], 1, 0),
        ([45, 45, 1, 1], 2, 0),  # half of four, but two may well die by themselves
        ([45, 45, 45, *[1] * 6], 0, 3),  # a third
        ([45, 45, 45, *[1] * 7], 3, 0),  # 30% is not more than 30%
        ([45, 32, 33, 34, *[1] * 4], 0, 1),  # the first of four that a cut has silenced together
        ([45, 20, 20, 20, *[1] * 4], 1, 0),
        ([125, 125, 125], 3, 0),  # held for three graces, not longer
    ],
)
async def test_the_guard(connection, silent_s, lapsed, held):
    await hears(connection, 1000)
    await fleet(connection, silent_s)
    found = await liveness.find(connection, GRACE_S)
    assert (len(found.lapsed), len(found.held), found.fleet) == (lapsed, held, len(silent_s))


@pytest.mark.parametrize("status", ["ACTIVE", "OFFLINE"])
@pytest.mark.parametrize("beat_for_s", [0, GRACE_S - 1])
async def test_nodes_that_have_not_beaten_for_a_grace_hold_nobody(connection, status, beat_for_s):
    await hears(connection, 1000)
    await fleet(connection, [45] * 40, status, lineage="made up", beat_for_s=beat_for_s)
    await fleet(connection, [45])
    found = await liveness.find(connection, GRACE_S)
    assert found.held == []
    assert ("ACTIVE_00", 1) in found.lapsed


async def test_a_node_that_comes_back_for_a_beat_has_not_beaten_for_a_grace(connection):
    await hears(connection, 1000)
    await fleet(connection, [45] * 40, lineage="made up")
    await connection.execute("UPDATE gpus SET status_since = clock_timestamp() - interval '46 s'")
    assert (await liveness.find(connection, GRACE_S)).held == []


@pytest.mark.parametrize(("silent", "drained", "held"), [(4, 0, 4), (4, 3, 0), (5, 1, 5)])
async def test_nodes_that_drain_are_no_evidence(connection, silent, drained, held):
    """They are switched off together; one that falls silent with the others is held as they are."""
    await hears(connection, 1000)
    await fleet(connection, [45.0] * silent + [1.0] * (8 - silent))
    names = [f"ACTIVE_{number:02}" for number in range(drained)]
    await connection.execute("UPDATE gpus SET drained_at = registered_at WHERE gpu_id = ANY (%(g)s)", {"g": names})
    found = await liveness.find(connection, GRACE_S)
    assert (len(found.held), len(found.lapsed)) == (held, silent - held)


async def test_the_nodes_of_another_key_count_as_one(connection):
    """However long they have beaten: anyone with a key can make up any number of them."""
    await hears(connection, 1000)
    await fleet(connection, [45] * 40, lineage="made up")
    await fleet(connection, [45], lineage="honest")
    await fleet(connection, [1] * 4, lineage="others")
    found = await liveness.find(connection, GRACE_S)
    assert found.lapsed == [("honest_00", 1)]
    assert len(found.held) == 40  # those of the key itself, which costs nobody else anything


async def test_beating_nodes_of_another_key_do_not_lift_the_guard(connection):
    await hears(connection, 1000)
    await fleet(connection, [1] * 100, lineage="made up")
    await fleet(connection, [45] * 8, lineage="honest")
    assert len((await liveness.find(connection, GRACE_S)).held) == 8


@pytest.mark.parametrize(("silent", "held"), [(2, 0), (3, 3), (8, 8)])
async def test_a_fleet_with_a_key_for_each_node_is_guarded(connection, silent, held):
    await hears(connection, 1000)
    for number in range(8):
        await fleet(connection, [45 if number < silent else 1], lineage=f"rack-{number}")
    assert len((await liveness.find(connection, GRACE_S)).held) == held


async def test_thousands_of_keys_are_looked_through_in_a_moment(connection):
    await hears(connection, 1000)
    await connection.execute(
        "INSERT INTO gpus (gpu_id, epoch, status, hostname, ip, port, task_types, priority_queue, version,"
        "                  max_concurrent_tasks, metadata, lineage, registered_at, status_since)"
        " SELECT 'g' || n, 1, 'ACTIVE', 'h', '127.0.0.1', 1, '{1}', 'NORMAL', '1', 1, '{}', 'k' || n,"
        "        clock_timestamp() - interval '1 h', clock_timestamp() - interval '1 h'"
        "   FROM generate_series(1, 9000) n"
    )
    await connection.execute(
        "INSERT INTO gpu_beats SELECT gpu_id, clock_timestamp() - interval '45 s' FROM gpus WHERE lineage ~ '^k'"
    )
    await connection.execute("ANALYZE gpus, gpu_beats")
    await connection.execute("SET LOCAL statement_timeout = '3s'")  # 50 ms; pairs of keys would take 6 s
    assert len((await liveness.find(connection, GRACE_S)).held) == 9000


async def test_those_that_have_just_gone_offline_count_too(connection):
    await hears(connection, 1000)
    await fleet(connection, [45, 45], status="OFFLINE")
    await fleet(connection, [45, *[1] * 5])
    found = await liveness.find(connection, GRACE_S)
    assert (found.lapsed, found.held) == ([], ["ACTIVE_00"])


async def test_nobody_is_silent_where_nobody_listens(connection):
    await fleet(connection, [1000])
    assert (await liveness.find(connection, GRACE_S)).lapsed == []
    await hears(connection, GRACE_S - 1)
    assert (await liveness.find(connection, GRACE_S)).lapsed == []


async def test_an_instance_that_missed_its_own_beats_listens_again_with_the_first_one(connection):
    deaf_s = liveness.deaf_after_s(GRACE_S)
    instance_id = await hears(connection, 1000)
    await fleet(connection, [1000])
    await instances.beat(connection, instance_id, IDLE, deaf_s)
    assert len((await liveness.find(connection, GRACE_S)).lapsed) == 1
    await connection.execute("UPDATE instances SET last_beat = clock_timestamp() - interval '60 s'")
    await instances.beat(connection, instance_id, IDLE, deaf_s)
    assert (await liveness.find(connection, GRACE_S)).lapsed == []
