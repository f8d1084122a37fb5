"""The reference: bare workflows on the same server, without a database, an API or a node.

`Skeleton` takes the steps of a task that goes well, three local activities and one signal, and does nothing in them.
Its second step stands for the dispatch; a signal answers it as a node's report would. `Single` is the least that a
workflow can do.

The worker is a process of its own (`python -m tests.bench.bare`), without the SDK's sandbox even if ours uses it,
without gzip, on our event loop and with our garbage collection. So the reference is the fastest bare workflow, not the
most convenient one.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import time
from datetime import timedelta
from uuid import uuid4

import uvloop
from temporalio import activity, workflow
from temporalio.client import Client, GrpcCompression
from temporalio.worker import PollerBehaviorAutoscaling, UnsandboxedWorkflowRunner, Worker

from tests.bench.companion import Companion, serve
from tests.bench.stats import Samples
from workers.serving import garbage

QUEUE = "bench-bare"
STEP = timedelta(seconds=10)
FIRST, DISPATCH, LAST = "first", "dispatch", "last"


@workflow.defn(name="Skeleton")
class Skeleton:
    """Three local activities and one signal."""

    def __init__(self) -> None:
        self._reported = False

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_local_activity(FIRST, start_to_close_timeout=STEP)
        await workflow.execute_local_activity(DISPATCH, start_to_close_timeout=STEP)
        await workflow.wait_condition(lambda: self._reported, timeout=timedelta(minutes=5))
        await workflow.execute_local_activity(LAST, start_to_close_timeout=STEP)

    @workflow.signal
    def report(self) -> None:
        self._reported = True


@workflow.defn(name="Single")
class Single:
    """One local activity."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_local_activity(FIRST, start_to_close_timeout=STEP)


class Steps:
    """The activities; they do nothing."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._signals: set[asyncio.Task[None]] = set()

    @activity.defn(name=FIRST)
    async def first(self) -> None:
        return None

    @activity.defn(name=DISPATCH)
    async def dispatch(self) -> None:
        handle = self._client.get_workflow_handle(activity.info().workflow_id or "")
        task = asyncio.create_task(handle.signal(Skeleton.report))
        self._signals.add(task)
        task.add_done_callback(self._signals.discard)

    @activity.defn(name=LAST)
    async def last(self) -> None:
        return None


class Bare:
    """Starts bare workflows and waits for their results; `pid` is their worker's."""

    def __init__(self, client: Client, companion: Companion) -> None:
        self._client = client
        self._companion = companion
        self._numbers = itertools.count()
        self._run = uuid4().hex[:8]

    @property
    def pid(self) -> int:
        return self._companion.pid

    async def skeleton(self) -> float:
        """Seconds from the start to the result of three steps and a signal."""
        return await self._time("Skeleton")

    async def single(self) -> float:
        """Seconds from the start to the result of one step."""
        return await self._time("Single")

    async def burst(self, count: int, at_once: int) -> float:
        """Skeletons done per second, with `at_once` of them at a time."""
        numbers = iter(range(count))

        async def lane() -> None:
            for _ in numbers:
                await self.skeleton()

        began = time.perf_counter()
        await asyncio.gather(*(lane() for _ in range(at_once)))
        return count / (time.perf_counter() - began)

    async def warm_up(self, rounds: int) -> None:
        """Fill caches and pollers; none of it is measured."""
        for _ in range(rounds):
            await self.skeleton()
            await self.single()

    async def sample(self, count: int) -> Samples:
        """Run skeletons one after the other."""
        return Samples.of([await self.skeleton() for _ in range(count)])

    async def _time(self, name: str) -> float:
        workflow_id = f"bare-{self._run}-{next(self._numbers)}"
        began = time.perf_counter()
        await self._client.execute_workflow(name, id=workflow_id, task_queue=QUEUE)
        return time.perf_counter() - began


async def main() -> None:
    """Run the worker until our standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("namespace")
    args = parser.parse_args()
    client = await Client.connect(args.address, namespace=args.namespace, grpc_compression=GrpcCompression.NONE)
    steps = Steps(client)
    garbage.leave_out_what_is_loaded()
    async with Worker(
        client,
        task_queue=QUEUE,
        workflows=[Skeleton, Single],
        activities=[steps.first, steps.dispatch, steps.last],
        workflow_runner=UnsandboxedWorkflowRunner(),
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(),
    ):
        await serve()


if __name__ == "__main__":
    uvloop.run(main())
    os._exit(0)  # the SDK's own threads may outlive the interpreter, which then ends with an abort
