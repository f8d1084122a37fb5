"""The clock of Redis was two hours ahead, and is right again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from infra.cache import Cache
from infra.resilience.token_bucket import ByteRate, Rate
from workers.stack.stack import Stack


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    client = Redis.from_url(stack.services.redis_url, decode_responses=True)
    yield client
    await client.aclose()


async def test_a_bucket_that_would_fill_for_hours_is_full(redis: Redis, stack: Stack) -> None:
    cache, limit = Cache.connect(stack.services.redis_url), Rate(rate=1, burst=2)
    name = "gpu-orchestrator:bucket:set-back"
    seconds, _ = await redis.time()
    await redis.set(name, seconds + 7200)
    waits = [await cache.take("set-back", limit) for _ in range(3)]
    assert waits[:2] == [0, 0]
    assert waits[2] == pytest.approx(1, abs=0.5)
    bytes_name = "gpu-orchestrator:bytes:set-back"
    await redis.set(bytes_name, seconds + 7200)
    assert await cache.charge("set-back", ByteRate(2**20, 2**20), 10) == 0
    await redis.delete(name, bytes_name)
    await cache.close()
