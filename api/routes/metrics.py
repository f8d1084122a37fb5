"""Metrics for Prometheus, outside of the specification's paths (docs/monitoring.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

from fastapi import APIRouter, Depends, Response
from prometheus_client.core import Metric

from api.dependencies import Context, ContextOf
from api.middleware.authentication import METRICS
from api.routes.roles import check_operator
from infra.metrics import exposition, fleet, process
from infra.metrics.fleet import Fleet

router = APIRouter(dependencies=[Depends(check_operator)])


@router.get(METRICS, include_in_schema=False)
async def metrics(context: ContextOf) -> Response:
    timeout_s = context.settings.instance_timeout
    found = await context.database.run(partial(fleet.read, instance_timeout_s=timeout_s))
    body = await asyncio.to_thread(exposition.text, _families(context, found))
    return Response(body, media_type=exposition.CONTENT_TYPE)


def _families(context: Context, found: Fleet) -> Iterator[Metric]:
    yield from found.families()
    gauges = {
        "gpuo_temporal_up": ("1 while Temporal answers this process, else 0.", float(not context.temporal.away)),
        "gpuo_streams": ("Event streams that are open.", float(context.streams.taken)),
    }
    yield from process.families(context.instance.id, gauges)
