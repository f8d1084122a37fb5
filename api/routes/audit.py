"""The audit log (extension)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import ContextOf
from api.http.envelope import Envelope, ok
from api.http.paging import PageOf
from api.schemas.audit import AuditEntry
from api.schemas.words import FilterText
from infra.db.access import audit
from infra.db.access.audit import Action

router = APIRouter(prefix="/audit", tags=["审计"])


@router.get(
    "",
    response_model=Envelope[list[AuditEntry]],
    summary="扩展 获取审计日志",
    description="谁在何时做了什么，最新的在前；仅管理员可读。节点的心跳与上报不在其中，见任务时间线。",
)
async def list_entries(
    request: Request,
    response: Response,
    context: ContextOf,
    page: PageOf,
    key_id: Annotated[FilterText | None, Query(alias="keyId", description="密钥ID过滤")] = None,
    owner: Annotated[FilterText | None, Query(description="密钥所有者过滤")] = None,
    action: Annotated[Action | None, Query(description="操作过滤")] = None,
) -> dict[str, Any]:
    given = {"key_id": key_id, "owner": owner, "action": action}
    filters: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    rows, total = await context.database.run(lambda c: audit.page(c, filters, limit=page.limit, offset=page.offset))
    response.headers.update(page.headers(request, total))
    return ok([AuditEntry.of(row) for row in rows])
