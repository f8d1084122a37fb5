"""Slots of nodes, added up by what they do, by type, and for the fleet."""

from __future__ import annotations

from infra.db.slots.usage import NodeSlots, Slots, by_state, by_type, of_fleet

FLEET = [
    NodeSlots("free", "ACTIVE", [1], slots=4, takes=4, used=1, rest="free"),
    NodeSlots("probed", "ACTIVE", [1, 2], slots=4, takes=1, used=2, rest="free"),
    NodeSlots("shrunk", "ACTIVE", [2], slots=2, takes=2, used=3, rest="resting"),
    NodeSlots("drains", "ACTIVE", [2, 3], slots=8, takes=8, used=5, rest="draining"),
    NodeSlots("gone", "OFFLINE", [3], slots=2, takes=2, used=0, rest="offline"),
]


def test_a_node_that_takes_no_work_has_no_slots_and_no_more_are_held_than_there_are() -> None:
    assert of_fleet(FLEET) == Slots(7, 4)
    assert by_type(FLEET) == {1: Slots(5, 2), 2: Slots(3, 3), 3: Slots(0, 0)}
    assert (of_fleet([]), by_type([])) == (Slots(0, 0), {})


def test_every_slot_does_one_thing() -> None:
    counts = by_state(FLEET)
    assert counts == {"busy": 10, "free": 3, "resting": 2, "draining": 3, "offline": 2, "faulty": 0}
    assert sum(counts.values()) == sum(node.slots for node in FLEET)
