"""The list of keys (extension). The command line makes and ends them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response

from api.dependencies import ContextOf
from api.http.envelope import Envelope, ok
from api.http.paging import PageOf
from api.schemas.keys import ApiKey
from infra.db.access import api_keys

router = APIRouter(prefix="/keys", tags=["审计"])


@router.get(
    "",
    response_model=Envelope[list[ApiKey]],
    summary="扩展 获取密钥列表",
    description="所有密钥，最新的在前，不含密钥原文；仅管理员可读。密钥用命令行创建、轮换和吊销。",
)
async def list_keys(request: Request, response: Response, context: ContextOf, page: PageOf) -> dict[str, Any]:
    rows, total = await context.database.run(lambda c: api_keys.page(c, limit=page.limit, offset=page.offset))
    response.headers.update(page.headers(request, total))
    return ok([ApiKey.of(replace(row, grants=row.grants or {})) for row in rows])
