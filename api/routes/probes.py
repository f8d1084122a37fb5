"""Probes: whether the process is up, and whether its dependencies answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from fastapi import FastAPI, Response

from api.dependencies import Context
from api.http.envelope import Envelope, Failure, failure, ok, says

READY_WITHIN_S = 2.0


def install(app: FastAPI, context: Context) -> None:
    """Add the probes. They need no key."""

    @app.get("/healthz", tags=["探针"], summary="进程存活", responses=says("ok"), response_model=Envelope[str])
    async def healthz() -> dict[str, Any]:
        return ok("ok")

    unready: dict[int | str, dict[str, Any]] = {503: {"model": Failure, "description": "服务暂不可用"}}

    @app.get(
        "/readyz", tags=["探针"], summary="依赖可用", responses=says("ready") | unready, response_model=Envelope[str]
    )
    async def readyz() -> Response | dict[str, Any]:
        probes: dict[str, Awaitable[None]] = {
            "postgres": context.database.ping(),
            "redis": context.cache.ping(),
            "temporal": context.temporal.ping(),
        }
        answers = await asyncio.gather(
            *(asyncio.wait_for(probe, READY_WITHIN_S) for probe in probes.values()), return_exceptions=True
        )
        away = [name for name, answer in zip(probes, answers, strict=True) if isinstance(answer, BaseException)]
        if not away and not context.instance.id:
            away = ["instance"]
        if away:
            return failure(503, f"服务暂不可用: {', '.join(away)}", {"Retry-After": "1"})
        return ok("ready")
