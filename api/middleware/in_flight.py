"""A limit on the concurrent calls of one lineage, so that one caller cannot occupy the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.errors import TooManyRequests, answer_to
from api.middleware.authentication import PREFIX, caller_in
from infra.db.access.callers import Caller
from infra.json.off_loop import lineage
from workflows.domain.role import Role

AT_ONCE = {Role.USER: 16, Role.NODE: 32}
"""A user's reads occupy at most 16 of the 20 connections to Postgres. A node's key may serve a fleet that uploads."""
TURN_S = 2.0
"""Seconds that a call waits for its turn. A burst within the rate limit is served in that time."""


class Turn:
    """A call's turn. A call that only waits gives it back, so that other calls of the lineage go on."""

    def __init__(self, turns: asyncio.Semaphore | None = None) -> None:
        self._turns = turns

    def give_back(self) -> None:
        """Let another call begin. Repeating it does nothing."""
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.release()

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Let another call begin, and take a turn again at the end."""
        turns = self._turns
        self.give_back()
        yield
        if turns is not None:
            await turns.acquire()
            self._turns = turns


def turn_of(request: Request) -> Turn:
    """The turn of a request's call."""
    turn: Turn = request.scope["state"].get("turn") or Turn()
    return turn


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
        turn = scope["state"]["turn"] = Turn(turns)
        try:
            await self._app(scope, receive, send)
        finally:
            turn.give_back()

    def _turns_of(self, caller: Caller, *, beats: bool) -> asyncio.Semaphore:
        name = f"beats {caller.lineage}" if beats else caller.lineage
        return self._turns.setdefault(name, asyncio.Semaphore(AT_ONCE[caller.role]))


def is_beat(scope: Scope) -> bool:
    """Whether the call is a node's beat."""
    path: str = scope["path"]
    return scope["method"] == "POST" and path.startswith(f"{PREFIX}/gpus/") and path.endswith("/heartbeat")
