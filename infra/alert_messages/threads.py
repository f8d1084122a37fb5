"""Calls that may block for a long time, each in a thread of its own, which the end of the process does not wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def aside(call: Callable[[], T]) -> T:
    """Run a call in its own thread and return its result. Raises what the call raises.

    If the caller is cancelled, the call goes on and its result is dropped.
    """
    result: Future[T] = Future()

    def run() -> None:
        result.set_running_or_notify_cancel()
        try:
            result.set_result(call())
        except Exception as error:  # noqa: BLE001  the caller's
            result.set_exception(error)

    threading.Thread(target=run, name="aside", daemon=True).start()
    return await asyncio.wrap_future(result)
