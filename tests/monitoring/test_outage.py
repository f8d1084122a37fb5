"""A real Prometheus scrapes a real stack through an outage: counters equal the rows, rules fire and resolve."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.conftest import Api, MakeCaller, MakeNode, eventually
from tests.e2e.inside import select
from tests.fake_node import FakeNode
from tests.monitoring.test_rules import RULES, promtool
from workers.stack.ports import free_port
from workers.stack.stack import Stack

WORKS, FAILS = 880, 881
CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: gpu-orchestrator
    honor_labels: true
    authorization: {{credentials_file: key}}
    static_configs: [{{targets: ["{target}"]}}]
"""
SOONER = ((r"for: \w+", "for: 1s"), (r"\[(10m|1h)\]", "[20s]"), ("> 900", "> 1"), ("> 10$", "> 2"))
"""Replacements that make the rules quick."""
ENDED = """
    SELECT task_type::text AS type, COALESCE(end_reason, status) AS end_reason, count(*) AS n FROM tasks
     WHERE completed_at IS NOT NULL GROUP BY 1, 2"""
USED = """
    SELECT CASE outcome WHEN 'SUCCEEDED' THEN 'useful' WHEN 'REJECTED' THEN 'failed' ELSE 'lost' END AS kind,
           sum(round(extract(epoch FROM closed_at - COALESCE(accepted_at, claimed_at)) * 1000))::float8 / 1000 AS s
      FROM attempts a
     WHERE closed_at IS NOT NULL AND EXISTS (SELECT FROM task_events e WHERE e.task_id = a.task_id
           AND e.attempt = a.attempt AND e.from_status = 'PROCESSING' AND e.to_status <> 'PROCESSING')
     GROUP BY 1"""
"""A report may come before the acceptance is recorded."""


class Prometheus:
    """A Prometheus that is not ours."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def is_ready(self) -> bool:
        try:
            return (await self._http.get("/-/ready")).status_code == 200
        except httpx.TransportError:
            return False

    async def query(self, expression: str) -> dict[tuple[str, ...], float]:
        """Values by labels, without those of the scrape."""
        answer = (await self._http.get("/api/v1/query", params={"query": expression})).json()
        assert answer["status"] == "success", answer
        scraped = {"__name__", "job", "instance"}
        return {
            tuple(value for name, value in sorted(one["metric"].items()) if name not in scraped): float(one["value"][1])
            for one in answer["data"]["result"]
        }

    async def firing(self) -> set[str]:
        answer = (await self._http.get("/api/v1/alerts")).json()
        return {one["labels"]["alertname"] for one in answer["data"]["alerts"] if one["state"] == "firing"}

    async def fires(self, *names: str) -> None:
        """Wait until these rules fire, whatever else does."""

        async def all_of_them() -> bool:
            return set(names) <= await self.firing()

        await eventually(all_of_them, within=60)

    async def is_quiet(self) -> None:
        """Wait until no rule fires."""

        async def none() -> bool:
            return not await self.firing()

        await eventually(none, within=90)


@asynccontextmanager
async def scraping(stack: Stack, key: str, folder: Path) -> AsyncIterator[Prometheus]:
    rules = RULES.read_text("utf-8")
    for pattern, sooner in SOONER:
        rules = re.sub(pattern, sooner, rules, flags=re.MULTILINE)
    (folder / "rules.yml").write_text(rules, "utf-8")
    (folder / "key").write_text(key, "utf-8")
    (folder / "prometheus.yml").write_text(CONFIG.format(target=stack.api_url.removeprefix("http://")), "utf-8")
    port = free_port()
    log = (folder / "log").open("w")
    process = await asyncio.create_subprocess_exec(
        *("prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"),
        stdout=log,
        stderr=log,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            prometheus = Prometheus(http)
            await eventually(prometheus.is_ready)
            yield prometheus
    finally:
        process.terminate()
        await process.wait()
        log.close()
        shutil.rmtree(folder / "data", ignore_errors=True)


@pytest.fixture
async def prometheus(stack: Stack, make_caller: MakeCaller, tmp_path: Path) -> AsyncIterator[Prometheus]:
    caller = await make_caller("operator", "prometheus")
    async with scraping(stack, caller.key, tmp_path) as running:
        yield running


async def counters_equal_the_rows(stack: Stack, prometheus: Prometheus) -> None:
    async def equal() -> bool:
        ended = {(row["end_reason"], row["type"]): row["n"] for row in await select(stack, ENDED)}
        used = {(row["kind"],): pytest.approx(row["s"], abs=0.01) for row in await select(stack, USED)}
        shown = {labels: n for labels, n in (await prometheus.query("gpuo_tasks_ended_total")).items() if n}
        seconds = {labels: n for labels, n in (await prometheus.query("gpuo_gpu_seconds_total")).items() if n}
        return shown == ended and seconds == used

    await eventually(equal, within=30)


async def complete(api: Api, node: FakeNode, task_type: int, count: int) -> None:
    for _ in range(count):
        await api.create(task_type)
        await api.succeed(await node.next_put(), {"good": True})


@pytest.mark.timeout(300)
async def test_prometheus_sees_an_outage_and_its_end(
    api: Api, stack: Stack, make_node: MakeNode, prometheus: Prometheus
) -> None:
    works = await make_node("scraped_1", [WORKS])
    fails = await make_node("scraped_2", [FAILS])
    await complete(api, works, WORKS, 3)
    await complete(api, fails, FAILS, 1)  # a series has an increase from its second sample on
    await prometheus.is_quiet()
    await counters_equal_the_rows(stack, prometheus)
    waits = await prometheus.query("gpuo_wait_seconds_count")
    assert waits == {(str(WORKS),): 3, (str(FAILS),): 1}

    for _ in range(6):  # tasks fail
        await api.create(FAILS)
        put = await fails.next_put()
        await api.say(put, "FAILED", "bad input", rejected=True)
    await prometheus.fires("GpuoTasksFail")

    lost = await api.create(WORKS)
    await works.next_put()
    for node in (works, fails):  # nodes are killed while one of them works
        node.fall_silent()
        node.hang_up()
    await prometheus.fires("GpuoNodeDown", "GpuoQueueOld", "GpuoNoCapacity")
    assert (await prometheus.query("gpuo_node_up")) == {("scraped_1",): 0, ("scraped_2",): 0}
    assert (await prometheus.query("gpuo_slots"))[("offline",)] == 2

    await stack.part("worker").stop()  # the worker is killed
    await prometheus.fires("GpuoNoWorker")

    stack.part("worker").start()
    await stack.part("worker").until_ready(30)
    for node in (works, fails):
        await node.start()
        node.beat_with(partial(api.http.post, f"/gpus/{node.gpu_id}/heartbeat"))
    await api.gpu_until("scraped_1", "ACTIVE")

    async def done() -> bool:
        while not works.puts.empty():
            put = works.puts.get_nowait()
            await api.http.post(
                f"/tasks/{put.task_id}/result", json={"result": "{}"}, headers={"X-Attempt-Token": put.token}
            )
        return bool((await api.get(f"/tasks/{lost}"))["status"] == "COMPLETED")

    await eventually(done, within=60)
    await prometheus.is_quiet()
    await counters_equal_the_rows(stack, prometheus)
    assert set((await prometheus.query("resets(gpuo_tasks_ended_total[10m])")).values()) == {0}


async def test_the_text_is_what_promtool_wants(api: Api, make_caller: MakeCaller) -> None:
    caller = await make_caller("operator", "prometheus")
    answer = await caller.http.get(f"{api.stack.api_url}/metrics")
    assert answer.status_code == 200
    assert await asyncio.to_thread(lambda: promtool("check", "metrics", input=answer.text)) == ""
    user = await make_caller("user", "user_metrics")
    assert (await user.http.get(f"{api.stack.api_url}/metrics")).status_code == 403
