"""Calls that create something at most once, by an Idempotency-Key. It is printed if no answer came."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from gpu_orchestrator_client.errors import Unavailable, Unreachable
from gpu_orchestrator_client.naming import new_key
from workers.arguments import word
from workers.command.output import say


def add_key(parser: ArgumentParser, what: str) -> None:
    """The option for a key."""
    text = f"the same key and options again: the same {what}"
    parser.add_argument("--idempotency-key", type=word, metavar="KEY", help=text)


@contextmanager
def once(args: Namespace, done: str, do: str, moments: Mapping[str, int | None]) -> Iterator[str]:
    """Yield a key for a call. After a Ctrl-C, or without an answer, print how to repeat the call with it.

    `moments`: the values of options that are relative to now, in Unix milliseconds.
    """
    key = args.idempotency_key or new_key()
    try:
        yield key
    except (KeyboardInterrupt, Unreachable, Unavailable):
        again = "".join(f", {option} {_iso(ms)}" for option, ms in moments.items() if ms is not None)
        say(f"it may be {done} all the same: --idempotency-key {key} with the same options{again} finds it, or {do} it")
        raise


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
