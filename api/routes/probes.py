"""Probes: whether the process is up, and whether its dependencies answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

from fastapi import FastAPI, Response

from api.dependencies import Context
from api.http.envelope import Envelope, Failure, failure, ok, says

READY_WITHIN_S = 2.0
FRESH_S = 0.5
"""Seconds for which an answer is shared: nobody needs a key to ask."""


class Readiness:
    """Whether the dependencies answer: asked by one caller at a time, whose answer is shared."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._away: list[str] = []
        self._stale_at = 0.0  # by the monotonic clock
        self._one_at_a_time = asyncio.Lock()

    async def away(self) -> list[str]:
        """The names of those that do not answer, at most half a second old."""
        async with self._one_at_a_time:
            if time.monotonic() >= self._stale_at:
                self._away = await self._ask()
                self._stale_at = time.monotonic() + FRESH_S
            return self._away

    async def _ask(self) -> list[str]:
        probes: dict[str, Awaitable[None]] = {
            "postgres": self._context.database.ping(),
            "redis": self._context.cache.ping(),
            "temporal": self._context.temporal.ping(),
        }
        answers = await asyncio.gather(
            *(asyncio.wait_for(probe, READY_WITHIN_S) for probe in probes.values()), return_exceptions=True
        )
        return [name for name, answer in zip(probes, answers, strict=True) if isinstance(answer, BaseException)]


def install(app: FastAPI, context: Context) -> None:
    """Add the probes. They need no key."""
    readiness = Readiness(context)

    @app.get("/healthz", tags=["探针"], summary="进程存活", responses=says("ok"), response_model=Envelope[str])
    async def healthz() -> dict[str, Any]:
        return ok("ok")

    unready: dict[int | str, dict[str, Any]] = {503: {"model": Failure, "description": "服务暂不可用"}}

    @app.get(
        "/readyz", tags=["探针"], summary="依赖可用", responses=says("ready") | unready, response_model=Envelope[str]
    )
    async def readyz() -> Response | dict[str, Any]:
        away = await readiness.away()
        if not away and not context.instance.id:
            away = ["instance"]
        if away:
            return failure(503, f"服务暂不可用: {', '.join(away)}", {"Retry-After": "1"})
        return ok("ready")
