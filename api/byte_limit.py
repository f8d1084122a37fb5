"""How many bytes the keys of one lineage may send and be sent, as their role's rate says: 429 until a debt is paid."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from cachetools import LRUCache
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import caller_in
from api.body import MAX_BODY
from api.errors import TooManyRequests, answer_to
from api.in_flight import is_beat
from infra.cache import Cache
from infra.rates import ByteRate, charge
from infra.settings import Settings
from workflows.domain.role import Role

STEP = 64 * 1024
"""Bytes of a lineage that a process counts by itself before it tells Redis: small calls cost no further round trip."""
MOST = 10_000


@dataclass
class Account:
    """Bytes and limits that one process keeps for a lineage; times by the monotonic clock."""

    unreported: int = 0
    full_at: float = 0.0  # of the process' own bucket, for while Redis is away
    blocked_until: float = 0.0


class ByteLimit:
    """Charges what was really received and answered. A call is never cut for it: the next one waits.

    The buckets are in Redis, for all API processes together; while it is away each has its own.
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
        declared = _declared(Headers(scope=scope))
        wait = account.blocked_until - time.monotonic()
        if wait > 0 and (caller.role is not Role.NODE or not is_beat(scope) or declared):  # a node beats on
            await answer_to(TooManyRequests(math.ceil(wait)))(scope, receive, send)
            return
        await self._counted(caller.lineage, limit, declared, scope, receive, send)

    async def _counted(
        self, lineage: str, limit: ByteRate, declared: int, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Charge what was declared at once, since many calls may be under way, and set it right in the end."""
        moved = -declared

        async def receiving() -> Message:
            nonlocal moved
            message = await receive()
            moved += len(message.get("body", b""))
            return message

        async def sending(message: Message) -> None:
            nonlocal moved
            moved += len(message.get("body", b""))
            await send(message)

        await self._charge(lineage, limit, declared)
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


def _declared(headers: Headers) -> int:
    """How long a body will be at most; of one in chunks nobody knows more."""
    if "transfer-encoding" in headers:
        return MAX_BODY
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0
