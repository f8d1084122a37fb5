"""Streams: from an event to the client, what idle ones cost, and what two hundred take from a burst."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from tests.bench.burst import AtOnce, burst
from tests.bench.figures import Figure, Of, at_least, at_most
from tests.bench.plan import Plan
from tests.bench.rig import Rig, eventually, say
from tests.bench.stats import Samples

TYPE, SLOTS, NODES = 19, 20, 5
FOLLOWED, IDLE = 200, 2000
EACH = 20
"""One of this number of streams is measured: the readers share the machine with what they read."""
IDLE_S = 15.0
SETTLE_S = 3.0
ROUNDS = 9  # bursts differ by a third on a shared machine, and the aim is a twentieth
_DATA = re.compile(rb"^data: (.*)$", re.MULTILINE)


async def measure(rig: Rig, plan: Plan) -> list[Figure]:
    """Bursts with and without streams in turn; then streams that nothing happens to."""
    work = AtOnce(rig)
    for number in range(NODES):
        await rig.node(f"streams-{number}", TYPE, SLOTS // NODES, work.on_put, work.on_held)
    await burst(rig, work, TYPE, 2 * SLOTS)
    late: list[float] = []
    without, beside = [], []
    for _ in range(ROUNDS):
        without.append((await burst(rig, work, TYPE, plan.burst_tasks))[0])
        async with _streams(rig, FOLLOWED, late.extend):
            beside.append((await burst(rig, work, TYPE, plan.burst_tasks))[0])
        say(f"  {without[-1]:.1f}/s without, {beside[-1]:.1f}/s with {FOLLOWED} streams")
    return [_delay(late), _burst(without, beside), await _idle(rig)]


def _delay(late: list[float]) -> Figure:
    p95 = Samples.of(late).quantile(0.95)
    note = f"{len(late)} events in some of {FOLLOWED} streams of all events, during bursts"
    return Figure("event to client, p95", p95, "ms", None, "", at_most(400, Of.VALUE), n=len(late), note=note)


def _burst(without: list[float], beside: list[float]) -> Figure:
    ours, reference = statistics.median(beside), statistics.median(without)
    name, note = f"burst with {FOLLOWED} streams", f"median of {ROUNDS}, in turn; each stream gets every event"
    return Figure(name, ours, "/s", reference, "without", at_least(0.95), n=ROUNDS, note=note)


async def _idle(rig: Rig) -> Figure:
    before = await _busy(rig)
    async with _streams(rig, IDLE, lambda _: None):
        await asyncio.sleep(SETTLE_S)
        with_them = await _busy(rig)
    note = f"CPU of the API over {IDLE_S:g} s, less what it uses without them ({before:.1f} %)"
    cost = max(0.0, with_them - before)
    return Figure(f"{IDLE} idle streams", cost, "% of a core", None, "", at_most(5, Of.VALUE), n=1, note=note)


async def _busy(rig: Rig) -> float:
    """Percent of a core that the API uses."""
    start = rig.meter.usage()
    await asyncio.sleep(IDLE_S)
    window = rig.meter.usage().since(start)
    return 100 * window.cpu["api"] / window.at


@asynccontextmanager
async def _streams(rig: Rig, count: int, take: Callable[[list[float]], None]) -> AsyncIterator[None]:
    """Open streams; `take` gets how late each event was, in ms."""
    opened: list[bool] = []
    readers = [asyncio.create_task(_follow(rig, opened, take if n % EACH == 0 else None)) for n in range(count)]

    async def all_open() -> bool:
        return len(opened) == count or any(one.done() for one in readers)

    await eventually(all_open, within=60)
    yield
    for one in readers:
        one.cancel()
    for error in await asyncio.gather(*readers, return_exceptions=True):
        if not isinstance(error, asyncio.CancelledError):
            raise RuntimeError("a stream was cut") from error


async def _follow(rig: Rig, opened: list[bool], take: Callable[[list[float]], None] | None) -> None:
    settings, key = rig.stack.settings, rig.stack.api_key.secret.get_secret_value()
    reader, writer = await asyncio.open_connection(settings.host, settings.port)
    try:
        request = f"GET /api/v2/stream?after=now HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
        writer.write(request.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        opened.append(True)
        while chunk := await reader.read(65536):
            if take is not None:
                now = 1000 * time.time()
                take([now - json.loads(one)["time"] for one in _DATA.findall(chunk) if one.endswith(b"}")])
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
