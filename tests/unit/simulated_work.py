"""Work and nodes of a simulated fleet: what an input does on every node, and a node to every input."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from workflows.domain.attempt import Outcome

Ends = tuple[Outcome, str, float]
"""How an attempt ends: its outcome, the reason, and after how many seconds."""
Work = Callable[[random.Random], Ends | None]
"""The outcome that an input forces on every node; None if it depends only on the node."""
Behaviour = Callable[[random.Random], Ends | None]
"""The outcome that a node gives every input; None if it does what the input demands."""


def good(_: random.Random) -> None:
    """Work that every sound node completes."""


def raises(_: random.Random) -> Ends:
    """An input on which the handler raises."""
    return Outcome.FAILED, "ValueError: no such model", 0.2


def bad_input(_: random.Random) -> Ends:
    """An input that the handler knows to be bad."""
    return Outcome.REJECTED, "no such model", 0.1


def flaky(share: float) -> Work:
    """Work that fails in this share of its attempts, wherever it runs."""
    return lambda rng: (Outcome.FAILED, "random", 0.5) if rng.random() < share else None


def hurried(_: random.Random) -> Ends:
    """Work with a limit that is shorter than its usual duration."""
    return Outcome.TIMED_OUT, "limit", 0.001


def sound(_: random.Random) -> None:
    """A node that does what the input demands."""


def broken(share: float) -> Behaviour:
    """A node that fails this share of its attempts."""
    return lambda rng: (Outcome.FAILED, "CUDA error", 0.1) if rng.random() < share else None


def rejecting(_: random.Random) -> Ends:
    """A node that answers 422 to everything."""
    return Outcome.REJECTED, "422", 0.05


def handing_back(_: random.Random) -> Ends:
    """A node that hands everything back."""
    return Outcome.HANDED_BACK, "", 0.05


def speaking_html(_: random.Random) -> Ends:
    """Another service at the node's address."""
    return Outcome.PROTOCOL_ERROR, "HTTP 200, text/html", 1.5


MIXES: dict[str, Mapping[tuple[str, Work], float]] = {
    "honest work": {("h", good): 1},
    "20 % fail at random by half": {("h", good): 0.8, ("c", flaky(0.5)): 0.2},
    "all fail at random by 30 %": {("c", flaky(0.3)): 1},
    "half raise": {("h", good): 0.5, ("c", raises): 0.5},
    "half are bad inputs": {("h", good): 0.5, ("c", bad_input): 0.5},
    "half have a short limit": {("h", good): 0.5, ("c", hurried): 0.5},
}
BAD: dict[str, Behaviour] = {
    "fails all": broken(1),
    "fails half": broken(0.5),
    "rejects all": rejecting,
    "speaks HTML": speaking_html,
    "hands all back": handing_back,
}
Mix = Mapping[tuple[str, Work], float]
"""The shares of flows and their work."""
