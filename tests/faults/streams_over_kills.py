"""Streams of tasks while the API is killed: `python -m tests.faults.streams_over_kills`.

Each stream must equal its task's timeline, without a gap and without a double.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import aconnect_sse

from tests.conftest import TLS, Api, fleet, frontend
from tests.e2e.inside import select
from tests.stack_settings import stack_settings
from workers.stack.stack import Stack

TASK_TYPE = 971


class Follower:
    """A client that follows one task, and goes on behind the last id after each break."""

    def __init__(self, api: Api, task_id: str) -> None:
        self._api = api
        self.task_id = task_id
        self.statuses: list[tuple[int, str]] = []
        self.ids: list[str] = []
        self.begun = asyncio.Event()

    async def run(self) -> None:
        last: str | None = None
        async with httpx.AsyncClient(
            base_url=self._api.http.base_url, headers=self._api.http.headers, trust_env=False, verify=TLS, timeout=20
        ) as http:
            while True:
                headers = {} if last is None else {"Last-Event-ID": last}
                try:
                    async with aconnect_sse(http, "GET", f"/tasks/{self.task_id}/stream", headers=headers) as source:
                        async for one in source.aiter_sse():  # after a comment too, without data
                            last = one.id or last
                            if one.data and self._takes(one.event, json.loads(one.data), one.id):
                                return
                except httpx.HTTPError:
                    await asyncio.sleep(0.1)

    def _takes(self, name: str, data: Any, id_: str) -> bool:
        """Note a message. Returns whether it was the last."""
        self.begun.set()
        if name == "snapshot":
            self.statuses, self.ids = [(0, data["status"])], []
        elif name == "status":
            self.statuses.append((data["data"]["seq"], data["data"]["status"]))
            self.ids.append(id_)
        return name == "end"


async def run(stack: Stack, streams: int, kills: int) -> dict[str, int]:
    """The figures. Raises AssertionError where a stream is not its task's timeline."""
    async with frontend(stack) as api, fleet(api) as make_node:
        node = await make_node("killed_streams", [TASK_TYPE], maxConcurrentTasks=4)
        followers = [Follower(api, await api.create(TASK_TYPE, maxRetries=1)) for _ in range(streams)]
        running = [asyncio.create_task(one.run()) for one in followers]
        await asyncio.gather(*(one.begun.wait() for one in followers))
        work = asyncio.create_task(_work(api, node))
        for _ in range(kills):
            ended = sum(one.done() for one in running)
            async with asyncio.timeout(60):
                while sum(one.done() for one in running) < min(ended + streams // (kills + 1), streams):
                    left = [one for one in running if not one.done()]
                    await asyncio.wait([work, *left], return_when=asyncio.FIRST_COMPLETED)
                    assert not work.done()
            stack.part("api").kill()
            await stack.part("api").until_ready(60)
        async with asyncio.timeout(90):
            await asyncio.gather(*running)
        work.cancel()
        for one in followers:
            await _check(stack, one)
    return {"streams": streams, "kills": kills, "events": sum(len(one.ids) for one in followers)}


async def _check(stack: Stack, one: Follower) -> None:
    timeline = [
        (row["seq"], row["to_status"])
        for row in await select(
            stack, f"SELECT seq, to_status FROM task_events WHERE task_id = '{one.task_id}'"
            " AND from_status IS DISTINCT FROM to_status ORDER BY seq"
        )
    ]  # fmt: skip
    shown = len(timeline) - len(one.statuses)  # the number of the entry that the snapshot showed
    assert one.statuses[1:] == timeline[shown + 1 :]
    assert one.statuses[0][1] == timeline[shown][1]
    assert len(set(one.ids)) == len(one.ids)


async def _work(api: Api, node: Any) -> None:
    """Every third first try fails; the rest succeed. A report is repeated until it is answered."""
    number = 0
    while True:
        put = await node.next_put(within=60)
        number += 1
        kind, body = "result", {"result": "{}"}
        if number % 3 == 0 and put.run_id.endswith("-1"):
            kind, body = "status", {"status": "FAILED", "gpuId": put.gpu_id, "message": "again"}
        while True:
            try:
                path = f"/tasks/{put.task_id}/{kind}"
                answer = await api.http.post(path, json=body, headers={"X-Attempt-Token": put.token})
            except httpx.HTTPError:
                await asyncio.sleep(0.1)
                continue
            if answer.status_code < 500:
                break
            await asyncio.sleep(0.1)


async def alone(streams: int, kills: int) -> dict[str, int]:
    """The same on a stack of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with Stack(stack_settings(Path(folder)), nodes=0) as stack:
            return await run(stack, streams, kills)


def main() -> int:
    """The last line of standard output is one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.streams_over_kills", description=__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    args = parser.parse_args()
    sys.stdout.write(f"{json.dumps(asyncio.run(alone(args.streams, args.kills)))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
