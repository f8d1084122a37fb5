"""The share that a task takes: words that a caller chooses make none."""

from __future__ import annotations

import pytest

from workflows.domain import shares
from workflows.domain.role import Role


@pytest.mark.parametrize(
    ("role", "acts_for_others", "flow"),
    [
        (Role.USER, False, "owner:someone"),
        (Role.USER, True, None),
        (Role.ADMIN, False, None),
    ],
)
def test_the_flow_of_a_key(role: Role, acts_for_others: bool, flow: str | None) -> None:
    assert shares.flow_of(role, "someone", acts_for_others=acts_for_others) == flow


def test_no_app_is_named_like_an_owner() -> None:
    assert shares.named(None, "owner:someone") != shares.named("owner:someone", "any")
    assert shares.named("owner:someone", "one") == shares.named("owner:someone", "another")


def test_whose_weight_counts() -> None:
    assert shares.counts_as_app(None, "a", None)
    assert not shares.counts_as_app("owner:x", "a", None)
    assert not shares.counts_as_app("owner:x", "a", ("b",))
    assert shares.counts_as_app("owner:x", "a", ("a", "b"))
