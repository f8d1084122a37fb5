"""When an alert is raised, when it is counted, and when it is raised again."""

from __future__ import annotations

import asyncio

import pytest

from api.schemas.alerts import AlertInfo
from infra.db.connection import Connection
from infra.db.nodes import transitions as node_transitions
from infra.db.nodes.drains import Drain
from infra.db.ops import alerts
from infra.db.ops.alerts import AGAIN_S, UNSERVED_NAMED, NewAlert, Unserved
from infra.db.queue import aging
from infra.db.repair import drift
from infra.db.session import Database
from infra.db.transactions import node_state
from tests.db.life import Life
from tests.db.sessions import Session
from workflows.domain.alert import AlertLevel
from workflows.domain.queue_policy import QueuePolicy

EVENT = NewAlert("cause", "t", "m", AlertLevel.WARNING, "s")
STATE = NewAlert("state", "t", "m", AlertLevel.WARNING, "s", lasts=True)


async def counts(connection: Session) -> list[tuple[str, str, int]]:
    """Status, message and count of each alert."""
    return await connection.rows("SELECT status, message, count FROM alerts ORDER BY seq")


async def acknowledge_all(connection: Connection, ago_s: float = 0.0) -> None:
    for seq in await connection.all(int, "SELECT seq FROM alerts WHERE status = 'ACTIVE'"):
        await alerts.acknowledge(connection, seq, "me")
    ago = "make_interval(secs => %(s)s)"
    await connection.execute(
        f"UPDATE alerts SET raised_at = raised_at - {ago}, acknowledged_at = acknowledged_at - {ago}",
        {"s": ago_s},
    )


async def test_one_is_open_for_each_cause_and_counts(life: Life) -> None:
    connection = life.connection
    assert [await alerts.raise_alert(connection, EVENT) for _ in range(3)] == [True, False, False]
    assert await counts(connection) == [("ACTIVE", "m", 3)]
    await acknowledge_all(connection, AGAIN_S - 10)
    assert not await alerts.raise_alert(connection, EVENT)
    assert await counts(connection) == [("ACKNOWLEDGED", "m", 4)]
    await acknowledge_all(connection, 20)
    assert await alerts.raise_alert(connection, EVENT)
    assert await counts(connection) == [("ACKNOWLEDGED", "m", 4), ("ACTIVE", "m", 1)]


async def test_a_state_is_shown_as_it_is_now_and_not_counted(life: Life) -> None:
    connection = life.connection
    other = NewAlert("state", "t", "other", AlertLevel.WARNING, "s", lasts=True)
    assert [await alerts.raise_alert(connection, one) for one in (STATE, STATE, other)] == [True, False, False]
    assert await counts(connection) == [("ACTIVE", "other", 1)]
    await acknowledge_all(connection)
    assert not await alerts.raise_alert(connection, STATE)
    assert await counts(connection) == [("ACKNOWLEDGED", "other", 1)]
    await acknowledge_all(connection, AGAIN_S + 1)
    assert await alerts.raise_alert(connection, STATE)


async def test_a_time_to_come_does_not_hold_it_back(life: Life) -> None:
    await alerts.raise_alert(life.connection, EVENT)
    await acknowledge_all(life.connection, -7200)
    assert await alerts.raise_alert(life.connection, EVENT)


async def test_one_alert_for_all_outages_of_the_fleet_until_it_is_acknowledged(life: Life) -> None:
    async def fleet_silent(*held: str) -> bool:
        return await alerts.raise_alert(life.connection, alerts.fleet_silent(list(held), 9))

    assert [await fleet_silent("a"), await fleet_silent("b", "a")] == [True, False]
    await life.do("UPDATE alerts SET raised_at = raised_at - interval '1 day'")
    assert not await fleet_silent("b", "a")
    ((status, message, count),) = await counts(life.connection)
    assert (status, count) == ("ACTIVE", 1)
    assert message.endswith("a, b")
    await acknowledge_all(life.connection, AGAIN_S - 10)
    assert not await fleet_silent("c")
    await acknowledge_all(life.connection, 20)
    assert await fleet_silent("c")


async def test_every_cause_is_raised_again_however_many_alerts_there_are(life: Life) -> None:
    await alerts.raise_alert(life.connection, EVENT)
    await acknowledge_all(life.connection, AGAIN_S + 1)
    for number in range(1100):
        await alerts.raise_alert(life.connection, NewAlert(f"fault:n{number}", "t", "m", AlertLevel.CRITICAL, "s"))
    assert [await alerts.raise_alert(life.connection, EVENT) for _ in range(2)] == [True, False]


async def test_what_the_version_before_has_raised_does_not_hold_it_back(life: Life) -> None:
    await life.do(
        "INSERT INTO alerts (dedupe_key, title, message, level, source)"
        " VALUES ('fleet-silent:0', 't', 'm', 'CRITICAL', 's'), ('fault:n:1', 't', 'm', 'CRITICAL', 's')"
    )
    assert await alerts.raise_alert(life.connection, alerts.fleet_silent(["n"], 3))
    await life.node("n", [1])
    await node_state.fault(life.connection, "n", "x")
    assert len(await counts(life.connection)) == 4


async def test_a_node_that_goes_and_comes_has_one_open_alert(life: Life) -> None:
    await life.node("n", [1])
    for _ in range(6):
        await node_transitions.go_offline(life.connection, "n")
        await node_state.come_back(life.connection, "n")
    assert await counts(life.connection) == [("ACTIVE", "GPU节点 n 心跳超时，已离线", 6)]


async def test_a_node_that_registers_faults_and_leaves_has_one_open_alert(life: Life) -> None:
    for number in range(60):
        await life.node("n", [1])
        await node_state.recover(life.connection, "n")
        await node_state.fault(life.connection, "n", f"reason {number}")
        await node_state.deregister(life.connection, "n")
    assert await counts(life.connection) == [("ACTIVE", "GPU节点 n 检测到故障: reason 59", 60)]
    (row,), total = await alerts.page(life.connection, {}, limit=9, offset=0)
    assert AlertInfo.of(row).message == "GPU节点 n 检测到故障: reason 59（共60次）"
    assert total == 1


@pytest.mark.parametrize("gpu_id", ["a", "a:b", "a#0"])
async def test_causes_of_nodes_are_not_mixed_up(life: Life, gpu_id: str) -> None:
    for name in (gpu_id, f"{gpu_id}:b", f"{gpu_id}#0"):
        assert await alerts.raise_alert(life.connection, NewAlert(f"fault:{name}", "t", "m", AlertLevel.CRITICAL, "s"))


async def test_of_those_that_raise_it_at_once_one_does(database: Database) -> None:
    alert = NewAlert("at once", "t", "m", AlertLevel.WARNING, "s")
    raised = await asyncio.gather(*(database.run(lambda c: alerts.raise_alert(c, alert)) for _ in range(12)))
    await database.run(lambda c: c.execute("DELETE FROM alerts WHERE cause = 'at once'"))
    assert sorted(raised) == [False] * 11 + [True]


async def test_any_number_of_types_that_nobody_serves_makes_few_alerts(life: Life) -> None:
    await life.node("n", [1])
    for kind in range(1, UNSERVED_NAMED + 4):
        await life.create(f"t{kind}", task_type=kind)
    await life.do(
        "INSERT INTO counters (counter, key, n)"
        f" SELECT 'tasks', kind || ' QUEUED', 1 FROM generate_series(1, {UNSERVED_NAMED + 3}) kind"
        " ON CONFLICT (counter, key) DO UPDATE SET n = excluded.n"
    )
    waiting = [pair for pair in await drift.unserved(life.connection) if pair[1].startswith("t")]
    assert waiting == [Unserved(kind, f"t{kind}") for kind in range(2, UNSERVED_NAMED + 4)]  # the oldest first
    raised = alerts.unserved(waiting)
    assert len({one.cause for one in raised}) == UNSERVED_NAMED + 1
    assert raised[0].message == "没有已注册的GPU节点支持任务类型 2，任务 t2 正在等待"
    assert raised[-1].message == "另有 2 个任务类型没有可接收其任务的GPU节点"
    assert len(alerts.unserved(waiting[:UNSERVED_NAMED])) == UNSERVED_NAMED


async def test_a_type_that_a_node_had_goes_before_those_that_were_made_up(life: Life) -> None:
    await life.node("n", [UNSERVED_NAMED + 9])
    await node_state.deregister(life.connection, "n")
    for kind in (*range(1, UNSERVED_NAMED + 3), UNSERVED_NAMED + 9):
        await life.create(f"t{kind}", task_type=kind)
    await life.do(
        "INSERT INTO counters (counter, key, n) SELECT DISTINCT 'tasks', task_type || ' QUEUED', 1 FROM tasks"
        " ON CONFLICT (counter, key) DO UPDATE SET n = excluded.n"
    )
    assert (await drift.unserved(life.connection))[0] == Unserved(UNSERVED_NAMED + 9, f"t{UNSERVED_NAMED + 9}")


async def test_a_type_that_only_draining_nodes_serve_is_unserved(life: Life) -> None:
    for gpu_id in ("m", "n"):
        await life.node(gpu_id, [1])
    await node_state.drain(life.connection, "n", Drain("ops", "fan"))
    await life.create("t1")
    await life.do(
        "INSERT INTO counters (counter, key, n) VALUES ('tasks', '1 QUEUED', 1)"
        " ON CONFLICT (counter, key) DO UPDATE SET n = excluded.n"
    )
    assert await drift.unserved(life.connection) == []
    await node_state.drain(life.connection, "m", Drain("ops", "fan"))
    (found,) = await drift.unserved(life.connection)
    assert found == Unserved(1, "t1", drained=True)
    (raised,) = alerts.unserved([found])
    assert raised.message == "支持任务类型 1 的GPU节点均已停止接收新任务，任务 t1 正在等待"


async def test_a_normal_task_is_unserved_where_only_vip_nodes_run_its_type_and_that_is_strict(life: Life) -> None:
    await life.node("vip", [1], serves="VIP")
    await life.create("normal")
    await life.create("urgent", priority=2)
    await life.do(
        "INSERT INTO counters (counter, key, n) VALUES ('tasks', '1 QUEUED', 2)"
        " ON CONFLICT (counter, key) DO UPDATE SET n = excluded.n"
    )
    assert await drift.unserved(life.connection) == []
    life.connection.policy = QueuePolicy(vip_nodes_strict=True)
    found = await drift.unserved(life.connection)
    assert found == [Unserved(1, "normal", vip_only=True)]
    (raised,) = alerts.unserved(found)
    assert raised.message == "支持任务类型 1 的GPU节点只接收VIP任务，任务 normal 正在等待"
    await aging.promote(life.connection, -1, limit=10)  # it waits in the class of VIP tasks, and is none
    assert await drift.unserved(life.connection) == found
    await node_state.drain(life.connection, "vip", Drain("ops", "fan"))
    assert [one.task_type for one in await drift.unserved(life.connection)] == [1]
    await life.node("both", [1])
    assert await drift.unserved(life.connection) == []
