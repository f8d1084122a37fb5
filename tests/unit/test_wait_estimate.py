"""The estimated wait as a pure rule."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.db.slots.capacity import Capacity, Nodes
from infra.db.slots.wait_estimate import until_start_s


@given(
    st.integers(0, 200),
    st.lists(st.floats(0, 100), max_size=20),
    st.lists(st.floats(0, 100), max_size=5),
    st.integers(0, 5),
    st.floats(0.1, 100),
)
def test_the_waiting_time_is_that_of_the_slots_served_in_turn(ahead, remaining, held, free, usual):
    """Against a simulation in which every task takes exactly the usual time and all running ones are shorter."""
    remaining, held = [min(left, usual) for left in remaining], [min(left, usual) for left in held]
    nodes = Nodes(0, 0, 0, 0, 0, 0, 0, 0, 0, free + len(remaining) + len(held), free)
    expected = until_start_s(ahead, Capacity(nodes, [1], remaining, usual, held).ends_s, usual)
    if nodes.slots == 0:
        assert expected is None
        return
    ends = [0.0] * free + remaining + held
    heapq.heapify(ends)
    for _ in range(ahead):
        heapq.heappush(ends, heapq.heappop(ends) + usual)
    assert expected == pytest.approx(ends[0])
