"""`gpu-orchestrator api`: one API process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
import uvloop

from api.app import create_app
from api.dependencies import Context
from api.http.connections import Limits, within_the_files
from api.http.small_reads import serving
from infra import telemetry
from infra.cache import Cache
from infra.db.slots.forecast import Forecast
from infra.nodes.address_policy import AllowList
from infra.nodes.own_services import OwnServices
from infra.settings import ENV_PREFIX, Settings, load
from infra.temporal.access import connect
from infra.temporal.gateway import TemporalGateway
from infra.webhooks.addresses import ReceiverAddresses
from infra.webhooks.sender import Sender
from workers.serving import garbage
from workers.serving.instance import Instance
from workers.serving.schema import open_database
from workers.stack.ports import require_free


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT, finishing open requests. Raises BadSettings, PortTaken and CannotListen."""
    settings = load("database_url", "temporal_address")
    telemetry.log_to_stderr(settings.log_level)
    require_free(settings.host, settings.port, f"{ENV_PREFIX}PORT")
    with telemetry.exported("gpu-orchestrator-api"):
        uvloop.run(serve(settings))
    return 0


async def serve(settings: Settings) -> None:
    """Assemble the API and run it."""
    database = await open_database(settings)
    cache = Cache.connect(settings.redis_url)
    temporal = TemporalGateway(await connect(settings), settings)
    instance = Instance("api", database, temporal, settings)
    own = OwnServices(settings)
    await own.refresh()
    allowed = AllowList.of_nodes(settings, own)
    forecast = Forecast(database)
    receivers = Sender(ReceiverAddresses(settings, own))
    context = Context(database, cache, temporal, settings, instance, forecast, allowed, receivers)
    app = create_app(context)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=serving(within_the_files(Limits())),  # type: ignore[arg-type]  # made as a protocol is
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    background = [asyncio.create_task(work) for work in (instance.run(), own.keep_fresh())]
    garbage.leave_out_what_is_loaded()
    try:
        await ApiServer(config, context.hub.close).serve()
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await cache.close()
        await database.close()


class ApiServer(uvicorn.Server):
    """Returns after a signal. uvicorn itself would send the signal once more and so end the process before the rest.

    Streams end first: they would wait for its deadline.
    """

    def __init__(self, config: uvicorn.Config, end_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_streams = end_streams

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._end_streams()
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.handle_exit, number, None)
        yield
