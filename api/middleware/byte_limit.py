"""Byte rates by lineage: once its keys owe bytes, calls are answered 429 until the debt is paid."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from cachetools import LRUCache
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.body import declared
from api.http.errors import TooManyRequests, answer_to
from api.middleware.authentication import caller_in
from api.middleware.declared_size import largest_body
from api.middleware.in_flight import is_beat
from infra.cache import Cache
from infra.resilience.token_bucket import ByteRate, charge
from infra.settings import Settings
from workflows.domain.role import Role

STEP = 64 * 1024
"""Bytes of a lineage that a process counts locally before it reports them to Redis, so that small calls cost no
extra round trip."""
MOST = 10_000


@dataclass
class Account:
    """Bytes and limits that one process keeps for a lineage; times by the monotonic clock."""

    unreported: int = 0
    full_at: float = 0.0  # of the process' own bucket, for while Redis is away
    blocked_until: float = 0.0


class ByteLimit:
    """Charges the bytes that were received and answered. A call is never cut short; the next one waits.

    The buckets are in Redis, shared by all API processes. While Redis is away each process has its own.
    """

    def __init__(self, app: ASGIApp, cache: Cache, settings: Settings) -> None:
        self._app = app
        self._cache = cache
        self._settings = settings
        self._accounts: LRUCache[str, Account] = LRUCache(MOST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = caller_in(scope)
        limit = None if caller is None else self._settings.bytes_of(caller.role)
        if caller is None or limit is None:
            await self._app(scope, receive, send)
            return
        account = self._account(caller.lineage)
        most = _most(Headers(scope=scope), largest_body(scope))
        wait = account.blocked_until - time.monotonic()
        if wait > 0 and (caller.role is not Role.NODE or not is_beat(scope) or most):  # a node beats on
            await answer_to(TooManyRequests(math.ceil(wait)))(scope, receive, send)
            return
        await self._counted(caller.lineage, limit, most, scope, receive, send)

    async def _counted(
        self, lineage: str, limit: ByteRate, most: int, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Charge `most` bytes at once, since many calls may be in flight, and correct that at the end."""
        moved = -most

        async def receiving() -> Message:
            nonlocal moved
            message = await receive()
            moved += len(message.get("body", b""))
            return message

        async def sending(message: Message) -> None:
            nonlocal moved
            moved += len(message.get("body", b""))
            await send(message)
            if moved >= STEP:  # a stream has no end to wait for
                count, moved = moved, 0
                await self._charge(lineage, limit, count)

        await self._charge(lineage, limit, most)
        try:
            await self._app(scope, receiving, sending)
        finally:
            await self._charge(lineage, limit, moved)

    async def _charge(self, lineage: str, limit: ByteRate, count: int) -> None:
        account = self._account(lineage)
        account.unreported += count
        if abs(account.unreported) < STEP:
            return
        count, account.unreported = account.unreported, 0
        now = time.monotonic()
        account.full_at, own_wait = charge(account.full_at, now, limit, count)
        wait = await self._cache.charge(lineage, limit, count)
        account.blocked_until = now + (own_wait if wait is None else wait)

    def _account(self, lineage: str) -> Account:
        account: Account = self._accounts.setdefault(lineage, Account())
        return account


def _most(headers: Headers, most: int) -> int:
    """The most bytes that a body can have; the limit itself for a chunked body, and for one that is too large."""
    return most if "transfer-encoding" in headers else min(declared(headers), most)
