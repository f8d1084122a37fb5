"""Waiting for several things at once."""

from __future__ import annotations

import asyncio
from typing import Any


async def first_of(*futures: asyncio.Future[Any]) -> None:
    """Return when one of them is done; being cancelled here cancels none of them."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def settle(tasks: set[asyncio.Task[None]], seconds: float) -> None:
    """Wait until all of them are done, or the time is up."""
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
