"""Processing items one by one: one that fails, or whose row somebody holds, holds up no other one, but the loss of the
database ends the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from infra.db.session import is_lost

T = TypeVar("T")
R = TypeVar("R")


async def one_by_one(
    work: Callable[[T], Awaitable[R]],
    items: Iterable[T],
    failed: Callable[[T, Exception], None],
    *,
    at_once: int = 1,
    is_away: Callable[[Exception], bool] = is_lost,
) -> list[tuple[T, R]]:
    """Do the work for each item, `at_once` of them at the same time, and report each error to `failed`.

    Returns the items that are done, with their results, as they were done. An error that says that a server is away
    is of no single item: nothing more begins, and it is raised once what is under way has ended.
    """
    left = iter(items)
    done: list[tuple[T, R]] = []
    lost: list[Exception] = []

    async def go_on() -> None:
        for item in left:
            try:
                done.append((item, await work(item)))
            except Exception as error:  # noqa: BLE001  the caller logs it
                if is_away(error):
                    lost.append(error)
                else:
                    failed(item, error)
            if lost:
                return

    await asyncio.gather(*(go_on() for _ in range(at_once)))
    if lost:
        raise lost[0]
    return done
