"""Waiting at the start for what is away: a program that is started during an outage goes on when that is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_S, LONGEST_S = 0.5, 5.0  # s between two tries


async def until_there(name: str, reach: Callable[[], Awaitable[T]], is_away: Callable[[Exception], bool]) -> T:
    """The first answer of `reach`, which is tried for as long as it fails because `name` is away; raises the rest."""
    pause = FIRST_S
    while True:
        try:
            return await reach()
        except Exception as error:
            if not is_away(error):
                raise
            log.warning("%s is away, trying again in %g s: %s", name, pause, error)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_S)
