"""Clients that ask for tasks until they are acknowledged, and check in the end that they got what they asked for."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.faults.plan import LONGEST_MS, SHORTEST_MS, Plan
from tests.faults.work import TYPES, digest

PATIENCE = httpx.Timeout(6.0, connect=3.0)
AGAIN_S = 0.3
ASK_TWICE = 10
"""Every n-th task is requested once more after it was acknowledged."""
AT_ONCE = 16
AWAY = {429, 503}
HONEST = "user_"


def again_s_of(response: httpx.Response) -> float:
    """Seconds until a call that was not accepted is repeated: what the answer says."""
    return float(response.headers.get("Retry-After", AGAIN_S))


@dataclass
class Clients:
    """`accepted` maps the number of a task to its id, `answers` counts statuses, `wrong` says what never may be."""

    http: httpx.AsyncClient
    plan: Plan
    accepted: dict[int, str] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    async def work(self) -> None:
        """Ask for all tasks, spread evenly over the time of the load; returns when each is acknowledged."""
        chance = self.plan.chance("clients")
        durations = [chance.randint(SHORTEST_MS, LONGEST_MS) for _ in range(self.plan.tasks)]
        began = asyncio.get_running_loop().time()
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(n: int, ms: int) -> None:
            due = began + self.plan.seconds * n / self.plan.tasks
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            async with turns:
                await self._create(n, ms)

        async with asyncio.TaskGroup() as group:
            for n, ms in enumerate(durations):
                group.create_task(one(n, ms))

    async def _create(self, n: int, ms: int) -> None:
        self.accepted[n] = await self._ask(n, ms)
        if n % ASK_TWICE == 0 and await self._ask(n, ms) != self.accepted[n]:
            self.wrong.append(f"task {n}: one Idempotency-Key, two tasks")

    async def _ask(self, n: int, ms: int) -> str:
        body = {
            "taskType": TYPES[n // 2 % len(TYPES)],
            "userId": f"{HONEST}{n % 3}",
            "app": f"app_{n % 2}",
            "priority": 1 + n % 2,
            "payload": json.dumps({"n": n, "ms": ms}),
        }
        answer = await self.insist("POST", "/tasks", json=body, headers={"Idempotency-Key": f"{self.plan.seed}-{n}"})
        task_id: str = answer["taskId"]
        return task_id

    async def insist(self, method: str, path: str, **options: Any) -> Any:
        """Repeat a call until the answer is 200. Answers that a system which is away for a moment does not give are
        kept."""
        while True:
            again_s = AGAIN_S
            try:
                response = await self.http.request(method, path, **options)
            except httpx.HTTPError as error:
                self.answers[type(error).__name__] += 1
            else:
                self.answers[str(response.status_code)] += 1
                if response.status_code == 200:
                    return response.json()["data"]
                if response.status_code not in AWAY or "Retry-After" not in response.headers:
                    self.wrong.append(f"{method} {path} was answered {response.status_code}: {response.text[:200]}")
                again_s = again_s_of(response)
            await asyncio.sleep(again_s)

    async def check(self) -> list[str]:
        """The end of each acknowledged task that did not end with its own result."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(n: int, task_id: str) -> str | None:
            async with turns:
                task = await self.insist("GET", f"/tasks/{task_id}")
                found = (await self.insist("GET", f"/tasks/{task_id}/result"))["result"] or {}
            right = task["status"] == "COMPLETED" and found.get("digest") == digest(n)
            return None if right else f"task {n} ({task_id}) is {task['status']} with {found}: {task['errorMessage']}"

        found = await asyncio.gather(*(one(n, task_id) for n, task_id in self.accepted.items()))
        return [complaint for complaint in found if complaint]
