"""Heartbeats of long activities."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio import activity

BEAT_EVERY_S = 2.0


@asynccontextmanager
async def beating() -> AsyncIterator[None]:
    """Report to Temporal that the step is under way; the SDK sends no more of it than is needed."""

    async def for_ever() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(BEAT_EVERY_S)

    task = asyncio.create_task(for_ever())
    try:
        yield
    finally:
        task.cancel()
