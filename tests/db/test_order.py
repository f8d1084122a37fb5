"""The order of the queue on the real database: classes, fairness, aging, retries, VIP nodes, the choice of a node."""

from __future__ import annotations

from infra.db.queue import aging, ranks
from infra.db.slots import assign
from tests.db import rows
from tests.db.life import Life
from workflows.domain.attempt import Outcome
from workflows.domain.queue_policy import QueuePolicy


async def waiting(life: Life, *names: str, **more: object) -> None:
    """Tasks that wait behind the one that holds the only slot."""
    for name in names:
        await life.create(name, **more)  # type: ignore[arg-type]
        assert await life.claim(name) is None


async def busy(life: Life, gpu_id: str = "n", types: tuple[int, ...] = (1,), **more: object) -> None:
    """A node whose only slot is taken."""
    await life.node(gpu_id, list(types), **more)  # type: ignore[arg-type]
    await life.create(f"holder of {gpu_id}", types[0], app="holder", priority=2)
    assert await life.claim(f"holder of {gpu_id}") == gpu_id


async def predicted_and_run(life: Life, *names: str) -> list[str]:
    """Drain the queue; the order run, having compared it with the places shown."""
    places = {name: await life.position(name) for name in names}
    order = await life.drain()
    assert order == sorted(names, key=places.__getitem__)
    assert sorted(places.values()) == list(range(1, len(names) + 1))
    return order


async def test_vip_goes_before_normal_and_each_class_by_age(life):
    await busy(life)
    await waiting(life, "n1", "n2")
    await waiting(life, "v1", "v2", priority=5)
    assert await predicted_and_run(life, "n1", "n2", "v1", "v2") == ["v1", "v2", "n1", "n2"]


async def test_a_tenant_with_two_tasks_gets_its_turn_early(life):
    await busy(life)
    many, few = [f"many{n:02}" for n in range(12)], ["few1", "few2"]
    await waiting(life, *many, app="many")
    await waiting(life, *few, app="few")
    order = await predicted_and_run(life, *many, *few)
    assert [order.index(name) for name in few] == [1, 3]
    assert [name for name in order if name in many] == many


async def test_invented_apps_make_no_more_shares(life):
    """Ten of one owner behind 28 older ones of three others: each of the four has its turn, whatever apps there are."""
    await busy(life)
    others = [f"{owner}{n:02}" for owner in "abc" for n in range(10 if owner == "a" else 9)]
    for name in others:
        await waiting(life, name, app=f"app of {name[0]}", priority=2)
    greedy = [f"x{n}" for n in range(10)]
    for number, name in enumerate(greedy):
        await waiting(life, name, app=f"invented {number}", flow="owner:x", priority=9)
    order = await predicted_and_run(life, *others, *greedy)
    for turn in range(9):
        assert {name[0] for name in order[4 * turn : 4 * turn + 4]} == {"a", "b", "c", "x"}
    assert [name for name in order if name in greedy] == greedy


async def test_many_types_of_one_fleet_make_no_more_shares(life):
    """Ten of one owner, each of a type of its own that the node serves too, behind 28 older ones of another."""
    await busy(life, types=tuple(range(1, 12)))
    older = [f"a{n:02}" for n in range(28)]
    await waiting(life, *older, flow="owner:a")
    greedy = [f"x{n}" for n in range(10)]
    for number, name in enumerate(greedy):
        await waiting(life, name, task_type=2 + number, flow="owner:x")
    order = await predicted_and_run(life, *older, *greedy)
    for turn in range(10):
        assert {name[0] for name in order[2 * turn : 2 * turn + 2]} == {"a", "x"}


async def test_an_owner_s_flow_is_no_app_s(life):
    """Whatever it is called; a row of the previous version, without a flow, is in its app's."""
    await busy(life)
    await waiting(life, "a1", "a2", app="owner:x")
    await waiting(life, "x1", flow="owner:x")
    await waiting(life, "b1", app="b", flow="app:b")
    await waiting(life, "b2", app="b")
    order = await predicted_and_run(life, "a1", "a2", "x1", "b1", "b2")
    assert order[:3] == ["a1", "x1", "b1"]
    assert (await life.task("b2")).queue_rank > (await life.task("b1")).queue_rank


async def test_the_last_of_a_flow_is_read_from_its_index(life):
    await busy(life)
    await waiting(life, "a1")
    await rows.crowd(life.connection)
    values = {"task_type": 1, "queue_class": 0, "flow": "app:a", "pool": [1], "spacing": 1.0}
    plan = await life.connection.all(str, f"EXPLAIN {ranks._JOIN}", values)
    assert "ix_tasks_share" in "".join(plan)


async def test_a_weight_is_a_share(life):
    life.weights = {"heavy": 2.0}
    await busy(life)
    heavy, light = [f"h{n}" for n in range(6)], [f"l{n}" for n in range(3)]
    await waiting(life, *light, app="light")
    await waiting(life, *heavy, app="heavy")
    order = await predicted_and_run(life, *light, *heavy)
    assert [sum(name in heavy for name in order[start : start + 3]) for start in (0, 3, 6)] == [2, 2, 2]


async def test_types_that_share_a_node_share_one_queue(life):
    await busy(life, types=(1, 2))
    await waiting(life, "one", task_type=1)
    await waiting(life, "two", task_type=2, app="b")
    await waiting(life, "three", task_type=1)
    await waiting(life, "vip", task_type=2, priority=2)
    assert (await predicted_and_run(life, "one", "two", "three", "vip"))[0] == "vip"


async def test_work_for_other_nodes_is_not_ahead(life):
    await busy(life, "n1", (1,))
    await busy(life, "n2", (2,))
    await waiting(life, "a", "b", "c", task_type=1)
    await waiting(life, "d", task_type=2)
    assert await life.position("d") == 1
    assert await life.position("c") == 3


async def age(life: Life, *names: str) -> None:
    for name in names:
        await life.do("UPDATE tasks SET waiting_since = waiting_since - interval '1 h' WHERE task_id = %(t)s", t=name)


async def test_those_that_have_not_waited_too_long_are_not_read(life):
    await rows.crowd(life.connection)
    values = {"aging": 600, "limit": 100, "spacing": 1.0}
    plan = await life.connection.all(str, f"EXPLAIN (ANALYZE) {aging._PROMOTE}", values)
    assert "Rows Removed" not in "".join(plan)


async def test_what_waited_too_long_gets_a_share_of_the_vip_class(life):
    await busy(life)
    vips = [f"v{n}" for n in range(10)]
    await waiting(life, "old1", "old2", "young")
    await waiting(life, *vips, priority=2)
    await age(life, "old1", "old2")
    assert await aging.promote(life.connection, 600, limit=100) == 2
    assert await aging.promote(life.connection, 600, limit=100) == 0
    order = await predicted_and_run(life, "old1", "old2", "young", *vips)
    assert [name for name in order if name not in vips] == ["old1", "old2", "young"]
    assert order.index("old2") - order.index("old1") >= 4  # a small share: VIP work is hardly held up
    assert order.index("old2") < len(order) - 2


async def test_aging_moves_a_bounded_number_at_a_time_the_longest_waiting_first(life):
    await busy(life)
    await waiting(life, "old", "older")
    await age(life, "old", "older")
    await age(life, "older")
    assert await aging.promote(life.connection, 600, limit=1) == 1
    assert await life.drain() == ["older", "old"]


async def test_a_retry_keeps_its_place_and_jumps_no_queue(life):
    await life.node("n", [1])
    await life.create("first")
    assert await life.claim("first") == "n"
    await waiting(life, "second", "third")
    await life.create("vip", priority=2)
    assert await life.claim("vip") is None
    place = (await life.task("first")).queue_rank
    await life.end("first", Outcome.FAILED, "boom")
    assert list(await life.running()) == ["vip"]
    assert (await life.task("first")).queue_rank == place
    assert await life.position("first") == 1
    assert await life.claim("first") is None
    assert await predicted_and_run(life, "first", "second", "third") == ["first", "second", "third"]


async def test_a_lost_attempt_keeps_its_place_too(life):
    await life.node("n", [1])
    await life.create("first")
    await life.claim("first")
    await waiting(life, "second", "third")
    await life.end("first", Outcome.HANDED_BACK)
    assert await life.claim("first") is None  # its node rests for a second after a hand-back
    await life.do("UPDATE gpus SET not_before = NULL")
    assert await life.claim("second") is None
    assert list(await life.running()) == ["first"]


async def test_a_retry_prefers_a_node_that_has_not_failed_it(life):
    for gpu_id in ("n1", "n2"):
        await life.node(gpu_id, [1])
    await life.create("t")
    first = await life.claim("t")
    await life.end("t", Outcome.FAILED, "boom")
    other = ({"n1", "n2"} - {first}).pop()
    assert await life.claim("t") == other


async def test_a_task_that_failed_everywhere_goes_back_to_where_that_is_longest_ago(life):
    await life.node("a", [1])
    await life.node("b", [1])
    await life.create("t", max_retries=5)
    tried = []
    for number in range(4):
        tried.append(await life.claim("t"))
        await life.end("t", Outcome.FAILED, f"reason {number}")
    assert set(tried[:2]) == {"a", "b"}
    assert tried[2:] == tried[:2]


async def test_a_retry_waits_for_a_busy_node_a_while_before_it_goes_back_to_the_one_that_failed_it(life):
    await life.node("n1", [1])
    await life.create("t")
    assert await life.claim("t") == "n1"
    await busy(life, "n2")
    await life.end("t", Outcome.FAILED, "boom")
    assert await life.claim("t") is None
    await life.do(
        "UPDATE tasks SET waiting_since = waiting_since - make_interval(secs => %(s)s) WHERE task_id = 't'",
        s=assign.AVOID_S,
    )
    assert await life.claim("t") == "n1"


async def test_a_vip_node_takes_normal_work_only_while_no_vip_task_waits(life):
    await busy(life, serves="VIP")
    await waiting(life, "normal")
    await waiting(life, "vip", priority=2)
    assert await predicted_and_run(life, "normal", "vip") == ["vip", "normal"]


async def test_a_strict_vip_node_never_takes_normal_work_however_old(life):
    life.connection.policy = QueuePolicy(vip_nodes_strict=True)
    await life.node("n", [1], serves="VIP")
    await waiting(life, "normal")
    await age(life, "normal")
    assert await aging.promote(life.connection, 600, limit=10) == 1
    assert await life.claim("normal") is None
    await life.create("vip", priority=2)
    assert await life.claim("vip") == "n"
    assert await life.drain() == []
    assert await life.waits_for("normal") == "1 nodes: 1 vip only"


async def test_each_class_goes_to_its_own_nodes_first_and_then_to_the_others(life):
    for number in (1, 2):
        await life.node(f"normal{number}", [1])
        await life.node(f"vip{number}", [1], serves="VIP")
    taken = []
    for number, priority in enumerate((1, 2, 2, 2)):
        await life.create(f"t{number}", priority=priority)
        taken.append((await life.claim(f"t{number}"))[:-1])
    assert taken == ["normal", "vip", "vip", "normal"]


async def test_the_least_loaded_node_is_chosen_relative_to_its_slots(life):
    await life.node("large", [1], slots=4)
    await life.create("t1")
    await life.claim("t1")
    await life.node("small", [1], slots=2)
    taken = []
    for number in range(2, 6):
        await life.create(f"t{number}")
        taken.append(await life.claim(f"t{number}"))
    # small 0/2, then large 1/4 before small 1/2, then either at 1/2
    assert taken[:2] == ["small", "large"]
    assert sorted(map(str, taken[2:])) == ["large", "small"]


async def test_of_nodes_equally_loaded_the_one_with_fewer_failures_is_chosen(life):
    for number in range(8):
        await life.node(f"n{number}", [1])
    await life.do("UPDATE gpus SET task_failure_count = 1 WHERE gpu_id <> 'n5'")
    await life.create("t")
    assert await life.claim("t") == "n5"
