"""How many calls of one lineage a process works on at once, so that it is free for everybody else's."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from weakref import WeakValueDictionary

from starlette.types import ASGIApp, Receive, Scope, Send

from api.auth import PREFIX, caller_in
from api.errors import TooManyRequests, answer_to
from infra.db.keys import Caller
from workflows.domain.role import Role

AT_ONCE = {Role.USER: 16, Role.NODE: 32}
"""A user reads with most of the 20 connections to Postgres at the most; a node's key may serve a fleet that uploads."""
TURN_S = 2.0
"""How long a call waits for its turn: a burst that the rate admits is worked off meanwhile."""

lineage: ContextVar[str] = ContextVar("lineage", default="")
"""The lineage of the current request's caller; empty if the request has no key."""


class InFlight:
    """Behind the rate limit: 429 for a call whose turn has not come in time. Beats wait for beats alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = caller_in(scope)
        if caller is not None:
            lineage.set(caller.lineage)
        if caller is None or caller.role not in AT_ONCE:
            await self._app(scope, receive, send)
            return
        turns = self._turns_of(caller, beats=is_beat(scope))
        try:
            async with asyncio.timeout(TURN_S):
                await turns.acquire()
        except TimeoutError:
            await answer_to(TooManyRequests())(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            turns.release()

    def _turns_of(self, caller: Caller, *, beats: bool) -> asyncio.Semaphore:
        name = f"beats {caller.lineage}" if beats else caller.lineage
        return self._turns.setdefault(name, asyncio.Semaphore(AT_ONCE[caller.role]))


def is_beat(scope: Scope) -> bool:
    """Whether a node says that it is alive."""
    path: str = scope["path"]
    return scope["method"] == "POST" and path.startswith(f"{PREFIX}/gpus/") and path.endswith("/heartbeat")
