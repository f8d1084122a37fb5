"""The application, assembled visibly: routes, middleware, error answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.telemetry import TelemetryConfig

from api.console import routes as console
from api.console.error_pages import ErrorPages
from api.dependencies import Context
from api.http import errors
from api.middleware.authentication import PREFIX, Authentication
from api.middleware.byte_limit import ByteLimit
from api.middleware.cookies import Cookies
from api.middleware.declared_size import DeclaredSize
from api.middleware.error_shield import ErrorShield
from api.middleware.in_flight import InFlight
from api.middleware.methods import Cors, HeadAsGet, Options
from api.middleware.rate_limit import RateLimit
from api.middleware.target import Utf8Target
from api.middleware.tracing import Tracing
from api.openapi import docs, document
from api.routes import (
    alerts,
    audit,
    batches,
    cluster,
    create_task,
    events,
    gpus,
    groups,
    keys,
    metrics,
    monitoring,
    operations,
    probes,
    reports,
    roles,
    steering,
    streams,
    tasks,
    webhooks,
)
from infra import telemetry

WRITE_BEHIND_EVERY_S = 1.0
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}  # of FastAPI's own: see `Tracing`
ROUTERS = tuple(
    part.router
    for part in (
        monitoring,
        gpus,
        tasks,
        create_task,
        batches,
        groups,
        reports,
        steering,
        operations,
        alerts,
        cluster,
        audit,
        keys,
        events,
        streams,
        webhooks,
    )
)


def create_app(context: Context) -> FastAPI:
    """The API over its dependencies. The caller starts and stops those."""
    app = FastAPI(
        title="分布式任务调度系统 API",
        version="2.0.0",
        lifespan=lambda _: _writing_behind(context),
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
        generate_unique_id_function=lambda route: route.name,
        openapi_url=None,  # `document` and `docs` serve it
    )
    app.state.context = context
    roles.check_complete(ROUTERS)
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX, dependencies=[Depends(roles.check_role)])
    app.include_router(metrics.router)
    probes.install(app, context)
    console.install(app, context)
    errors.install(app)
    document.install(app, ROUTERS)
    docs.install(app)
    app.add_middleware(Options, routes=app.routes, prefix=PREFIX, below=[one for r in ROUTERS for one in r.routes])
    app.add_middleware(Utf8Target)
    app.add_middleware(ByteLimit, cache=context.cache, settings=context.settings)
    app.add_middleware(InFlight)
    app.add_middleware(RateLimit, cache=context.cache, settings=context.settings)
    app.add_middleware(
        Authentication, keys=context.keys, sessions=context.sessions, public_url=context.settings.public_url
    )
    app.add_middleware(DeclaredSize)
    app.add_middleware(ErrorShield)
    app.add_middleware(ErrorPages)
    app.add_middleware(Tracing, tracer=telemetry.tracer(), records=telemetry.is_on())
    app.add_middleware(Cors, origins=context.settings.cors_origins)
    app.add_middleware(HeadAsGet)
    app.add_middleware(Cookies)
    return app


@asynccontextmanager
async def _writing_behind(context: Context) -> AsyncIterator[None]:
    writer = asyncio.create_task(context.write_behind_forever(WRITE_BEHIND_EVERY_S))
    yield
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    await context.temporal.close()
    await context.write_behind()
