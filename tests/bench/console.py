"""The console: its pages over a short and a long history, and what people who look at it cost."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from tests.bench.burst import AtOnce
from tests.bench.figures import Figure, Of, at_most
from tests.bench.plan import Plan
from tests.bench.reads import COMMON_TYPE, VARIED, Readers, fill_database, finished_task, serving
from tests.bench.rig import Rig, say
from tests.bench.stats import Samples

TYPE, SLOTS = 20, 4
VIEWERS, TASKS_PER_S = 20, 5
TURNS, LOOKED_S, SETTLE_S = 5, 10.0, 3.0
PAGES = {
    "Now": "/now?n={}",
    "Fleet": "/fleet?n={}",
    "Queue": "/queue?n={}",
    "Tasks": "/tasks?n={}",
    "Tasks by status": "/tasks?status=COMPLETED&n={}",
    "Tasks of a type, page 100": f"/tasks?taskType={COMMON_TYPE}&page=100&n={{}}",
    "Tasks of an app": "/tasks?app=bench&n={}",
    "a task": "/tasks/bench_{}",
    "Failures": "/failures?n={}",
    "Alerts": "/alerts?n={}",
    "Audit log": "/audit?n={}",
    "Webhooks": "/webhooks?n={}",
    "System": "/system?n={}",
}
"""Paths with a number that makes each a page of its own: a page that several people look at is rendered once a
second."""
HISTORY = VARIED | {
    name: f"clock_timestamp() - i * interval '500 ms' - interval '{age_s} s'"
    for name, age_s in {"completed_at": 0, "started_at": 2, "created_at": 4}.items()
}
"""Two tasks a second for as long as the rows last: the last hour of both databases is the same, and one is older."""
LOOKED_AT = ("/now", "/fleet", "/queue", "/tasks")


async def measure(rig: Rig, plan: Plan) -> list[Figure]:
    """Pages of two databases in turn, then viewers of a stack that works."""
    template = await finished_task(rig)
    async with serving(rig, "bench_console_few") as few, serving(rig, "bench_console_many") as many:
        await fill_database(rig, "bench_console_few", template, plan.few_rows, HISTORY)
        say(f"  filling {plan.many_rows:,} rows")
        await fill_database(rig, "bench_console_many", template, plan.many_rows, HISTORY)
        await rig.statistics.execute("CHECKPOINT")
        taken = await _pages(few, many, plan.read_repeats)
    for database in ("bench_console_few", "bench_console_many"):
        await rig.statistics.execute(f'DROP DATABASE "{database}" WITH (FORCE)')
    pages = [_figure(name, small, large, plan) for name, (small, large) in taken.items()]
    return [*pages, await _viewers(rig)]


async def _pages(few: Readers, many: Readers, repeats: int) -> dict[str, tuple[Samples, Samples]]:
    """Each page of both databases in turn; the first round warms up."""
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in PAGES}
    for number in range(repeats + 1):
        for name, path in PAGES.items():
            for readers, samples in zip((many, few), reversed(taken[name]), strict=True):
                took = (await readers.admin.call("GET", path.format(1 + number * 97), below="/console")).took
                if number:
                    samples.append(1000 * took)
    return {name: (Samples.of(small), Samples.of(large)) for name, (small, large) in taken.items()}


def _figure(name: str, few: Samples, many: Samples, plan: Plan) -> Figure:
    full_name = f"console, {name}, {plan.many_rows:,} rows"
    return Figure(full_name, many.p50, "ms", few.p50, f"with {plan.few_rows:,} rows", at_most(1.3), many.n)


async def _viewers(rig: Rig) -> Figure:
    """Twenty people look at four pages while tasks come and go, and look away, in turn."""
    work = AtOnce(rig)
    await rig.node("console", TYPE, SLOTS, work.on_put, work.on_held)
    creating = asyncio.create_task(_create_for_ever(rig))
    await asyncio.sleep(SETTLE_S)
    without, with_them = [], []
    for _ in range(TURNS):
        without.append(await _busy(rig))
        async with _looking(rig):
            await asyncio.sleep(SETTLE_S)
            with_them.append(await _busy(rig))
        await asyncio.sleep(SETTLE_S)
    creating.cancel()
    base = statistics.fmean(without)
    seconds = f"{TURNS} times {LOOKED_S:g} s"
    note = f"CPU of the API over {seconds} with {TASKS_PER_S} tasks a second, less that without them ({base:.1f} %)"
    cost = max(0.0, statistics.fmean(with_them) - base)
    name = f"{VIEWERS} viewers of the console"
    return Figure(name, cost, "% of a core", None, "", at_most(10, Of.VALUE), TURNS, note)


async def _create_for_ever(rig: Rig) -> None:
    while True:
        await rig.create(TYPE)
        await asyncio.sleep(1 / TASKS_PER_S)


async def _busy(rig: Rig) -> float:
    """Percent of a core that the API uses."""
    start = rig.meter.usage()
    await asyncio.sleep(LOOKED_S)
    window = rig.meter.usage().since(start)
    return 100 * window.cpu["api"] / window.at


@asynccontextmanager
async def _looking(rig: Rig) -> AsyncIterator[None]:
    """Viewers, as many at each page."""
    readers = [asyncio.create_task(_look(rig, LOOKED_AT[n % len(LOOKED_AT)])) for n in range(VIEWERS)]
    try:
        yield
    finally:
        assert not any(one.done() for one in readers), "a viewer was cut off"
        for one in readers:
            one.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def _look(rig: Rig, path: str) -> None:
    """Follow a page as a browser does."""
    shown = await rig.api.call("GET", path, below="/console")
    version = (shown.message.body.partition(b'data-version="')[2].partition(b'"')[0]).decode()
    host, port = rig.stack.settings.host, rig.stack.settings.port
    reader, writer = await asyncio.open_connection(host, port)
    key = rig.stack.api_key.secret.get_secret_value()
    of = quote(f"/console{path}", safe="")
    line = f"GET /console/live?of={of}&version={version} HTTP/1.1"
    writer.write(f"{line}\r\nHost: {host}:{port}\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
    try:
        while await reader.read(65536):
            pass
    finally:
        writer.close()
