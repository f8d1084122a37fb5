"""Redis: the last beats and the monitor's last report. Losing it at any moment loses nothing."""

from __future__ import annotations

import json
import logging
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError

from infra.short_circuit import ShortCircuit

log = logging.getLogger(__name__)

_BEATS = "gpu-orchestrator:beats"
_REPORT = "gpu-orchestrator:monitor-report"
REPORT_TTL_S = 300
ANSWER_S = 0.5  # what takes longer counts as no answer
PAUSE_S = 1.0
"""Redis that has not answered is asked once in so many seconds: its absence must not slow every call."""
RETRY = Retry(NoBackoff(), 1, supported_errors=(ConnectionError,))
"""A connection of a Redis that has been replaced is opened anew; who does not answer is not asked twice."""


class Cache:
    """Every call answers, with nothing where Redis is away."""

    def __init__(self, redis: Redis | None) -> None:
        self._redis = redis
        self._circuit = ShortCircuit(pause_s=PAUSE_S, after=1)

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
        """Remember a node's last beat."""
        await self._ask("hset", _BEATS, gpu_id, at_ms)

    async def beats(self, gpu_ids: list[str]) -> dict[str, int]:
        """The last beats that are remembered, in ms since the epoch."""
        values = await self._ask("hmget", _BEATS, gpu_ids) if gpu_ids else None
        return {gpu_id: int(value) for gpu_id, value in zip(gpu_ids, values or [], strict=False) if value is not None}

    async def keep_report(self, report: dict[str, Any]) -> None:
        """Keep the monitor's last report."""
        await self._ask("set", _REPORT, json.dumps(report), ex=REPORT_TTL_S)

    async def report(self) -> dict[str, Any] | None:
        """The monitor's last report, where it is remembered."""
        value = await self._ask("get", _REPORT)
        return None if value is None else dict(json.loads(value))

    async def ping(self) -> None:
        """Raise unless Redis answers."""
        if self._redis is not None:
            await self._redis.ping()

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()

    async def _ask(self, command: str, *arguments: object, **options: object) -> Any:
        if self._redis is None or not self._circuit.admits():
            return None
        try:
            answer = await getattr(self._redis, command)(*arguments, **options)
        except (RedisError, OSError) as error:
            log.warning("redis is away: %s", error)
            self._circuit.failed()
            return None
        self._circuit.answered()
        return answer
