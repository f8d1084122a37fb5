"""`/readyz`, which needs no key: what it costs, and what it says."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock, MagicMock

import httpx
import pytest
from fastapi import FastAPI

from api.routes import probes


@pytest.fixture
def context() -> MagicMock:
    return MagicMock(database=AsyncMock(), cache=AsyncMock(), temporal=AsyncMock())


def caller(context: MagicMock) -> httpx.AsyncClient:
    app = FastAPI()
    probes.install(app, context)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here")


async def test_all_that_ask_at_once_share_one_answer(context: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "FRESH_S", 60.0)  # a busy machine is not what is tried here
    begun, gate = asyncio.Event(), asyncio.Event()

    async def ping() -> None:
        begun.set()
        await gate.wait()

    context.temporal.ping.side_effect = ping
    async with caller(context) as http:
        asked = [asyncio.create_task(http.get("/readyz")) for _ in range(200)]
        await begun.wait()
        gate.set()
        assert {(await one).status_code for one in asked} == {200}
        assert (await http.get("/readyz")).status_code == 200
    assert [one.ping.await_count for one in (context.database, context.cache, context.temporal)] == [1, 1, 1]


async def test_an_old_answer_is_not_given(context: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "FRESH_S", 0.0)
    context.cache.ping.side_effect = [ConnectionError, None]
    async with caller(context) as http:
        away, back = [await http.get("/readyz") for _ in range(2)]
    assert (away.status_code, away.json()["message"], back.status_code) == (503, "服务暂不可用: redis", 200)
