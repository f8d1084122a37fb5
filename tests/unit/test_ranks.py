"""The rank of a task as a pure rule: the shares of flows."""

from __future__ import annotations

import heapq
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from infra.db.queue.joining import rank_of

APPS = ("a", "b", "c")


def serve(arrivals: list[str], weights: dict[str, float]) -> list[str]:
    """The order in which one slot serves tasks that all arrive while it is busy."""
    queue: list[tuple[float, int, str]] = []
    for number, app in enumerate(arrivals):
        last = max((rank for rank, _, other in queue if other == app), default=None)
        head = queue[0][0] if queue else 0.0
        heapq.heappush(queue, (rank_of(head, last, weights.get(app, 1.0)), number, app))
    return [heapq.heappop(queue)[2] for _ in arrivals]


def test_a_tenant_with_two_tasks_does_not_wait_for_one_with_twelve():
    order = serve(["a"] * 12 + ["b"] * 2, {})
    assert [place for place, app in enumerate(order) if app == "b"] == [1, 3]


@given(st.lists(st.sampled_from(APPS), min_size=1, max_size=60))
def test_while_apps_have_work_their_shares_differ_by_one_at_most(arrivals):
    order, left = serve(arrivals, {}), Counter(arrivals)
    served: Counter[str] = Counter()
    for app in order:
        served[app] += 1
        left[app] -= 1
        busy = [other for other in APPS if left[other]]
        assert max((served[other] for other in busy), default=0) - min((served[o] for o in busy), default=0) <= 1


def test_a_weight_is_a_share():
    order = serve(["a"] * 30 + ["b"] * 30, {"a": 2.0})
    assert Counter(order[:30]) == {"a": 20, "b": 10}


@given(st.lists(st.sampled_from(APPS), max_size=40), st.floats(0.1, 10))
def test_an_apps_own_tasks_keep_their_order(arrivals, weight):
    ranks: dict[str, float] = {}
    for app in arrivals:
        rank = rank_of(0.0, ranks.get(app), weight)
        assert app not in ranks or rank > ranks[app]
        ranks[app] = rank
