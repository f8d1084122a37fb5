"""The limits of a key: absent ones are unlimited, and every boundary belongs to what is allowed."""

from __future__ import annotations

import json

import pytest

from workflows.domain.key_limits import OF_ROLE, UNLIMITED, KeyLimits
from workflows.domain.role import Role

EVERYTHING = KeyLimits(1, ("a", "b"), (2, 3), 8, 32, ("10.0.0.0/8", "fd00::/8"))


@pytest.mark.parametrize("limits", [UNLIMITED, EVERYTHING, KeyLimits(max_priority=0), KeyLimits(apps=("应用",))])
def test_what_is_stored_is_what_was_granted(limits: KeyLimits) -> None:
    assert KeyLimits.of(json.loads(json.dumps(limits.shown()))) == limits


def test_nothing_stored_is_unlimited() -> None:
    assert KeyLimits.of(None) == KeyLimits.of({}) == UNLIMITED
    assert UNLIMITED.shown() == {}


def test_a_grant_of_a_later_version_is_not_ignored() -> None:
    with pytest.raises(KeyError):
        KeyLimits.of({"maxSpeed": 1})


def test_every_grant_is_of_one_role() -> None:
    names = [name for role in Role for name in OF_ROLE.get(role, ())]
    assert sorted(names) == sorted(EVERYTHING.shown())
    assert EVERYTHING.beyond(Role.USER) == ["types", "maxGpus", "maxSlots", "networks"]
    assert EVERYTHING.beyond(Role.NODE) == ["maxPriority", "apps"]
    assert len(EVERYTHING.beyond(Role.ADMIN)) == len(EVERYTHING.beyond(Role.OPERATOR)) == 6


@pytest.mark.parametrize(
    ("limit", "asked", "given"),
    [
        (None, None, 1),
        (None, 9, 9),
        (1, 1, 1),
        (1, 2, None),
        (1, -5, -5),
        (1, None, 1),
        (0, None, 0),
        (0, 1, None),
        (-3, None, -3),
        (9, None, 1),
    ],
)
def test_priority(limit: int | None, asked: int | None, given: int | None) -> None:
    assert KeyLimits(max_priority=limit).priority(asked, 1) == given


def test_what_a_node_may_be() -> None:
    assert EVERYTHING.allow_types([3, 2])
    assert not EVERYTHING.allow_types([2, 4])
    assert (EVERYTHING.allow_gpus(8), EVERYTHING.allow_gpus(9)) == (True, False)
    assert (EVERYTHING.allow_slots(32), EVERYTHING.allow_slots(33)) == (True, False)
    assert EVERYTHING.allow_app("a")
    assert not EVERYTHING.allow_app("A")


@pytest.mark.parametrize(
    ("ip", "allowed"),
    [("10.255.255.255", True), ("11.0.0.0", False), ("fd12::1", True), ("fc00::1", False), ("::1", False)],
)
def test_addresses(ip: str, allowed: bool) -> None:
    assert EVERYTHING.allow_ip(ip) is allowed
    assert UNLIMITED.allow_ip(ip)
