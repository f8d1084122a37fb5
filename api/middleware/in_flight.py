"""A limit on the concurrent calls of one lineage, so that one caller cannot occupy the process."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.errors import TooManyRequests, answer_to
from api.middleware.authentication import PREFIX, caller_in
from infra.db.ops.api_keys import Caller
from infra.json.off_loop import lineage
from workflows.domain.role import Role

AT_ONCE = {Role.USER: 16, Role.NODE: 32}
"""A user's reads occupy at most 16 of the 20 connections to Postgres. A node's key may serve a fleet that uploads."""
TURN_S = 2.0
"""Seconds that a call waits for its turn. A burst within the rate limit is worked off in that time."""


class InFlight:
    """Comes after the rate limit: 429 for a call whose turn has not come in time. Beats wait only for beats."""

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
    """Whether the call is a node's beat."""
    path: str = scope["path"]
    return scope["method"] == "POST" and path.startswith(f"{PREFIX}/gpus/") and path.endswith("/heartbeat")
