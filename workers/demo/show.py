"""The course of the demo on a running stack: ask, watch, kill, wait, check."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import defaultdict
from collections.abc import Sequence

from gpu_orchestrator_client import AsyncClient, Event, Task
from workers.demo.batch import Job
from workers.demo.board import Board
from workers.demo.check import problem
from workers.demo.errors import DemoFailed
from workers.demo.report import Outcome
from workers.demo.tracked import Tracked
from workers.stack.stack import Stack

VICTIM = "gpu_002"
WARM_UP = 4  # tasks that are done before the kill, so that it hits the middle of the work
DEADLINE = 240.0  # s for all tasks
NODES_DEADLINE = 60.0  # s for all nodes to register
STEP = 0.25  # s between two looks; much less than a task takes


class Show:
    """One batch of jobs on one stack."""

    def __init__(self, stack: Stack, api: AsyncClient, board: Board, nodes: Sequence[str]) -> None:
        self._stack = stack
        self._api = api
        self._board = board
        self._nodes = set(nodes)
        self._killed: str | None = None

    async def perform(self, jobs: Sequence[Job]) -> Outcome:
        """Run from the first request to the last check. Raises DemoFailed if the system does not answer."""
        await self._nodes_registered()
        tasks = [await self._create(job) for job in jobs]
        self._board.say(f"{len(tasks)} tasks created")
        deadline = time.monotonic() + DEADLINE
        while not all(task.ended for task in tasks) and time.monotonic() < deadline:
            await self._look(tasks)
            await asyncio.sleep(STEP)
        await self._check(tasks)
        return Outcome(tasks, self._killed)

    async def _nodes_registered(self) -> None:
        deadline = time.monotonic() + NODES_DEADLINE
        while missing := self._nodes - {node.gpu_id for node in await self._api.nodes() if node.status == "ACTIVE"}:
            if time.monotonic() > deadline:
                raise DemoFailed(f"not registered after {NODES_DEADLINE:g} s: {', '.join(sorted(missing))}")
            await asyncio.sleep(STEP)

    async def _create(self, job: Job) -> Tracked:
        created = await self._api.submit(job.task_type, job.payload, priority=1, env="demo")
        return Tracked(created.task_id, created.display_id, job)

    async def _look(self, tasks: Sequence[Tracked]) -> None:
        """Update every task, and kill the node at the first good moment."""
        found = await self._listed()
        begun = [task for task in tasks if task.task_id in found and task.see(found[task.task_id])]
        running = [task for task in tasks if task.status == "PROCESSING"]
        warm = sum(task.ended for task in tasks) >= WARM_UP
        if warm and not self._killed and any(task.gpu_id == VICTIM for task in begun):
            await self._kill(running)
        for task in running:
            task.progress = (await self._api.progress(task.task_id)).progress
        self._board.show(tasks)

    async def _kill(self, running: Sequence[Tracked]) -> None:
        """End the node for good, like a power cut. It has just begun a task, so it cannot have finished it."""
        self._killed = VICTIM
        hit = [task for task in running if task.gpu_id == VICTIM]
        await self._stack.part(VICTIM).stop(signal.SIGKILL)
        self._board.bury(VICTIM)
        self._board.say(f"[bold red]killed {VICTIM}[/] (SIGKILL) with {len(hit)} of its tasks running")

    async def _check(self, tasks: Sequence[Tracked]) -> None:
        found, story = await self._listed(), defaultdict[str | None, list[Event]](list)
        async for event in self._api.events():
            story[event.task_id].append(event)
        for task in tasks:
            if (record := found.get(task.task_id)) is None:
                task.status = task.problem = "LOST"
                continue
            task.see(record)
            task.recall(story[task.task_id])
            result = json.loads(record.result or "{}")
            task.problem = await asyncio.to_thread(problem, task.job, task.status, record.error_message, result)

    async def _listed(self) -> dict[str, Task]:
        """All tasks by their ids."""
        return {one.task_id: one async for one in self._api.tasks()}
