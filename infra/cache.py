"""Redis: the last beats and the callers' buckets. Losing it at any moment loses nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError, MaxConnectionsError, RedisError

from infra.resilience.circuit_breaker import CircuitBreaker
from infra.resilience.token_bucket import ByteRate, Rate

log = logging.getLogger(__name__)

_BEAT = "gpu-orchestrator:beat:"
_BUCKET = "gpu-orchestrator:bucket:"
_BYTES = "gpu-orchestrator:bytes:"
BEAT_TTL_S = 86_400
"""Nodes come and go under ever new names."""
ANSWER_S = 0.5  # what takes longer counts as no answer
AT_ONCE = 50
"""Concurrent calls to Redis. Further calls wait, since the client raises when its connections are used up."""
PAUSE_S = 1.0
"""Seconds between tries while Redis does not answer, so that its absence does not slow every call."""
RETRY = Retry(NoBackoff(), 1, supported_errors=(ConnectionError,))
"""Open a new connection if Redis has been replaced, but do not repeat a call that timed out."""

# Scripts of buckets, by Redis' own clock: KEYS a bucket; ARGV rate, burst, count.
_READ = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local rate, burst, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local full_at = tonumber(redis.call('GET', KEYS[1]) or now)
"""
# `token_bucket.take`. The answer is the time to wait, in s. No bucket takes longer to fill than an empty one: such a
# time was written while the clock was ahead.
_TAKE = f"""{_READ}
if full_at > now + burst / rate + 1 then
    full_at = now
end
local after = math.max(full_at, now) + count / rate
local wait = after - now - burst / rate
if wait > 0.000001 then
    return string.format('%.6f', wait)
end
redis.call('SET', KEYS[1], string.format('%.6f', after), 'PX', math.ceil((after - now) * 1000))
return '0'
"""

# `token_bucket.charge`. The answer is the time to credit, in s. What was charged at once may exceed the burst, but not
# by 128 MiB and ten minutes.
_CHARGE = f"""{_READ}
if full_at > now + (burst + 134217728) / rate + 600 then
    full_at = now
end
local after = math.max(full_at, now) + count / rate
if after > now then
    redis.call('SET', KEYS[1], string.format('%.6f', after), 'PX', math.ceil((after - now) * 1000) + 1)
else
    redis.call('DEL', KEYS[1])
end
return string.format('%.6f', math.max(0, after - now - burst / rate))
"""


class Cache:
    """Every call answers, with nothing while Redis is away."""

    def __init__(self, redis: Redis | None) -> None:
        self._redis = redis
        self._circuit = CircuitBreaker(pause_s=PAUSE_S, after=1)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._take = None if redis is None else redis.register_script(_TAKE)
        self._charge = None if redis is None else redis.register_script(_CHARGE)

    @classmethod
    def connect(cls, url: str | None) -> Cache:
        """A cache at `url`, or one that holds nothing."""
        if url is None:
            return cls(None)
        return cls(
            Redis.from_url(
                url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S, decode_responses=True, retry=RETRY
            )
        )

    async def beat(self, gpu_id: str, at_ms: int) -> None:
        """Store a node's last beat."""
        await self._ask("set", _BEAT + gpu_id, at_ms, ex=BEAT_TTL_S)

    async def beats(self, gpu_ids: list[str]) -> dict[str, int]:
        """The stored last beats, in ms since the epoch."""
        values = await self._ask("mget", [_BEAT + gpu_id for gpu_id in gpu_ids]) if gpu_ids else None
        return {gpu_id: int(value) for gpu_id, value in zip(gpu_ids, values or [], strict=False) if value is not None}

    async def take(self, name: str, limit: Rate, count: int = 1) -> float | None:
        """Take tokens of a bucket. Returns 0, or the seconds until it has them, or None while Redis is away."""
        return await self._run(self._take, _BUCKET + name, limit, count)

    async def charge(self, name: str, limit: ByteRate, count: int) -> float | None:
        """Take bytes of a bucket. Returns the seconds until it is in credit, or None while Redis is away."""
        return await self._run(self._charge, _BYTES + name, limit, count)

    async def ping(self) -> None:
        """Raise unless Redis answers."""
        if self._redis is not None:
            await self._redis.ping()

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()

    async def _run(self, script: AsyncScript | None, bucket: str, limit: Rate | ByteRate, count: int) -> float | None:
        if script is None:
            return None
        answer = await self._answer(script(keys=[bucket], args=[limit.rate, limit.burst, count]))
        return None if answer is None else float(answer)

    async def _ask(self, command: str, *arguments: object, **options: object) -> Any:
        return None if self._redis is None else await self._answer(getattr(self._redis, command)(*arguments, **options))

    async def _answer(self, call: Coroutine[Any, Any, Any]) -> Any:
        """The answer of Redis, or None if it is away, was away a moment ago, or is too busy."""
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._turns.acquire()
        except TimeoutError:
            call.close()
            return None
        try:
            return await self._answer_now(call)
        finally:
            self._turns.release()

    async def _answer_now(self, call: Coroutine[Any, Any, Any]) -> Any:
        if not self._circuit.admits():
            call.close()
            return None
        try:
            answer = await call
        except MaxConnectionsError:
            return None  # our own connections are used up: Redis is not away
        except (RedisError, OSError) as error:
            log.warning("redis is away: %s", error)
            self._circuit.failed()
            return None
        self._circuit.answered()
        return answer
