"""Refusals of calls that come too often: 429."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from functools import partial

from cachetools import LRUCache
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.errors import TooManyRequests, answer_to
from api.middleware.authentication import PREFIX, caller_in
from infra.cache import Cache
from infra.db.access.callers import Caller
from infra.resilience.token_bucket import Rate, take
from infra.settings import Settings
from workflows.domain.role import Role

MOST_BUCKETS = 10_000
REGISTER = f"{PREFIX}/gpus/register"
REGISTRATIONS_AT_ONCE = 64
CALLS_OF_BULK = 10
"""Calls that one call counts as if it finds its rows by a filter: the database counts all rows that fit."""


class RateLimit:
    """Limits the calls of a lineage's keys to their role's rate, after authentication.

    The buckets are in Redis, shared by all API processes. While Redis is away each process has its own.
    """

    def __init__(self, app: ASGIApp, cache: Cache, settings: Settings) -> None:
        self._app = app
        self._cache = cache
        self._settings = settings
        self._own = LocalBuckets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = caller_in(scope)
        limit = None if caller is None else self._settings.rate_of(caller.role)
        if caller is not None and limit is not None:
            if (wait := await self._wait(caller, limit, registers=_registers(scope, caller))) > 0:
                await answer_to(TooManyRequests(math.ceil(wait)))(scope, receive, send)
                return
            scope["state"]["charge"] = partial(self._charge, caller.lineage, limit)
        await self._app(scope, receive, send)

    async def _wait(self, caller: Caller, limit: Rate, *, registers: bool) -> float:
        wait = await self._take(caller.lineage, limit)
        if wait == 0 and registers:
            wait = await self._take(f"register {caller.lineage}", registrations(caller))
        return wait

    async def _charge(self, name: str, limit: Rate, calls: int) -> None:
        more = min(calls, limit.burst) - 1  # it has taken one
        if more > 0 and (wait := await self._take(name, limit, more)) > 0:
            raise TooManyRequests(math.ceil(wait))

    async def _take(self, name: str, limit: Rate, count: int = 1) -> float:
        wait = await self._cache.take(name, limit, count)
        return self._own.take(name, limit, count) if wait is None else wait


async def charge(request: Request, calls: int) -> None:
    """Count one call as `calls`, at most as the whole bucket. Raises TooManyRequests."""
    charged: Callable[[int], Awaitable[None]] | None = getattr(request.state, "charge", None)
    if charged is not None:
        await charged(calls)


def registrations(caller: Caller) -> Rate:
    """How often a node's key may register GPUs: all of a host or of a granted fleet at once, then one a second.

    A registration costs more than other calls: it locks types, assigns slots and writes to the audit log.
    """
    return Rate(rate=1, burst=max(REGISTRATIONS_AT_ONCE, caller.limits.max_gpus or 0))


def _registers(scope: Scope, caller: Caller) -> bool:
    return caller.role is Role.NODE and scope["method"] == "POST" and scope["path"] == REGISTER


class LocalBuckets:
    """Recently used buckets of one process, by name."""

    def __init__(self, most: int = MOST_BUCKETS) -> None:
        self._full_at: LRUCache[str, float] = LRUCache(most)

    def take(self, name: str, limit: Rate, count: int = 1) -> float:
        """Take tokens. Returns 0, or the seconds until the bucket has them."""
        now = time.monotonic()
        self._full_at[name], wait = take(self._full_at.get(name, now), now, limit, count)
        return wait
