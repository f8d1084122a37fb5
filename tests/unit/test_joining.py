"""The arithmetic of a batch that joins the queues of a wide pool costs the event loop little (invariant 16)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from infra.db.queue.joining import Front, Fronts, Joins, Pools, Queues

T = TypeVar("T")

POOL = range(64)
WAITING = [Front(0, float(rank), rank, task_type) for task_type in POOL for rank in range(31)]


def quickest(work: Callable[[], T]) -> tuple[float, T]:
    """The seconds of the quickest of three tries, and what it has made."""
    took = []
    for _ in range(3):
        began = time.thread_time()
        made = work()
        took.append(time.thread_time() - began)
    return min(took), made


def test_a_thousand_tasks_in_a_pool_of_64_types() -> None:
    def join() -> list[Joins]:
        pools.append(Pools())
        return [Joins(n % 16, n % 2, f"flow {n % 64}", 1.0, pools[-1].number([*POOL])) for n in range(1000)]

    pools: list[Pools] = []
    took, joining = quickest(join)
    queues = Queues(pools[-1], {}, {})
    ranking, ranks = quickest(lambda: queues.ranks(joining))

    def wait() -> list[tuple[int, bool]]:
        fronts = Fronts(WAITING, pools[-1], 31)
        return [fronts.join(one, rank) for one, rank in zip(joining, ranks, strict=True)]

    waiting, ahead = quickest(wait)
    assert took + ranking < 0.01
    assert waiting < 0.01
    assert ahead[1] == (0, False)  # VIP
    assert ahead[0] == (64, False)  # one of each type goes before
    assert ahead[-2][1] is False


def test_a_flow_is_one_over_pools_that_share_a_type() -> None:
    """Type 2 shares a node with 1, and another with 3."""
    pools = Pools()
    first, middle, last = (pools.number(pool) for pool in ([1, 2], [1, 2, 3], [2, 3]))
    joining = [Joins(2, 0, "a", 1.0, middle), Joins(1, 0, "a", 1.0, first), Joins(3, 0, "a", 1.0, last)]
    queues = Queues(pools, {}, {})
    assert queues.ranks(joining) == [0.0, 1.0, 1.0]
    assert queues.ranks(joining) == [0.0, 1.0, 1.0]
    assert (pools.types, pools.all[middle]) == ([1, 2, 3], (1, 2, 3))


def test_more_tasks_may_wait_where_a_front_was_cut() -> None:
    pools = Pools()
    pool = pools.number([1, 2])
    fronts = Fronts([Front(0, 0.0, 1, 1), Front(0, 5.0, 2, 1), Front(0, 1.0, 3, 2)], pools, 2)
    joins = Joins(2, 0, "a", 1.0, pool)
    assert fronts.join(joins, 4.0) == (2, False)
    assert fronts.join(joins, 5.0) == (4, True)
