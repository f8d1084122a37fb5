"""Cluster endpoints (specification §5)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from api.dependencies import ContextOf
from api.http.envelope import Envelope, ok
from api.http.paging import WholeOrPageOf
from api.schemas.cluster import ClusterStatus, InstanceInfo, InstanceSummary
from infra.db.ops import instances

router = APIRouter(prefix="/cluster", tags=["集群管理"])


@router.get("/status", response_model=Envelope[ClusterStatus], summary="5.1 获取集群状态")
async def status(context: ContextOf) -> dict[str, Any]:
    rows = await context.database.run(lambda c: instances.list_all(c, context.settings.instance_timeout))
    return ok(
        {
            "cluster_id": context.settings.cluster_id,
            "leader_instance": next((row.instance_id for row in rows if row.leads), None),
            "total_instances": len(rows),
            "active_instances": sum(row.alive for row in rows),
            "instances": [InstanceSummary.of(row) for row in rows],
        }
    )


@router.get("/instances", response_model=Envelope[list[InstanceInfo]], summary="5.2 获取实例信息")
async def list_instances(
    request: Request, response: Response, context: ContextOf, page: WholeOrPageOf
) -> dict[str, Any]:
    rows = await context.database.run(lambda c: instances.list_all(c, context.settings.instance_timeout))
    response.headers.update(page.headers(request, len(rows)))
    return ok([InstanceInfo.of(row) for row in page.of(rows)])
