"""Commands from the core to the clients, which do the input and output, and the replies to them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


def given(**values: Any) -> dict[str, Any]:
    """The values that are given: without those that are None."""
    return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Send:
    """A call to make, within `timeout_s` seconds. Doing it twice must be the same as doing it once.

    `refusals`: statuses that are the answer of this call, though other calls are repeated after them.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    refusals: frozenset[int] = frozenset()
    timeout_s: float = 30.0


@dataclass(frozen=True)
class Pause:
    """Seconds to wait."""

    seconds: float


@dataclass(frozen=True)
class Reply:
    """An answer, and the seconds that it took; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    took_s: float = 0.0


@dataclass(frozen=True)
class Lost:
    """There was no answer after `took_s` seconds; the call may have arrived all the same."""

    error: Exception
    took_s: float = 0.0


Heard = Reply | Lost | None
"""A Reply or Lost after a Send, None after a Pause."""
Steps = Generator[Send | Pause, Heard, T]
"""An operation: it yields commands, is sent what came of them, and returns its result."""


def run(steps: Steps[T], send: Callable[[Send], Reply | Lost], wait: Callable[[Heard, float], None]) -> T:
    """Run an operation: `send` makes its calls, `wait` waits after what was heard last. Its result."""
    heard: Heard = None
    while True:
        try:
            command = steps.send(heard)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        if isinstance(command, Send):
            heard = send(command)
        else:
            wait(heard, command.seconds)
            heard = None
