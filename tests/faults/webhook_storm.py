"""Ends of tasks, while parts are killed and the receiver is in all moods: `python -m tests.faults.webhook_storm`.

Every end must arrive, signed, with the id that the event log gives it, and always with the same bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import svix
from standardwebhooks import Webhook, WebhookVerificationError

from infra.db.ops import event_log
from infra.db.session import Database
from tests.begun import begun
from tests.conftest import Api, eventually, frontend, thrown_away
from tests.receiver import HANG, RESET, Got, Receiver
from tests.stack_settings import stack_settings
from workers.stack.stack import Stack
from workflows.domain.event import EventType

T = TypeVar("T")

PARTS = ("worker", "api", "postgres", "temporal")
TASK_TYPE = 799  # that no node serves
MOODS = ((500, 0.15), (RESET, 0.1), (302, 0.05), (503, 0.05), (HANG, 0.01))
TRIES = (0.2, 0.5, 1, *(2,) * 60)
AT_ONCE = 20
WITHIN_S = 200.0
"""Seconds after the last kill."""


@dataclass
class Storm:
    """The results of a storm."""

    seed: int
    secret: str = ""
    accepted: dict[str, Got] = field(default_factory=dict)  # by the event's id
    bodies: dict[str, bytes] = field(default_factory=dict)
    refused: list[Got] = field(default_factory=list)
    changed: int = 0
    requests: int = 0
    kills: int = 0

    def __post_init__(self) -> None:
        self._moods = random.Random(self.seed)

    def choose(self, got: Got) -> int:
        """The receiver's answer."""
        self.requests += 1
        self.check(got)
        self.changed += self.bodies.setdefault(got.id, got.body) != got.body
        chance = self._moods.random()
        for status, share in MOODS:
            if chance < share:
                return status
            chance -= share
        self.accepted[got.id] = got
        return 200

    def check(self, got: Got) -> None:
        """Note what a verifier refuses. A signature is good for five minutes."""
        try:
            event = Webhook(self.secret).verify(got.body, got.headers)
            svix.Webhook(self.secret).verify(got.body, got.headers)
            if event["id"] != got.id:
                self.refused.append(got)
        except WebhookVerificationError:
            self.refused.append(got)

    async def kill(self, stack: Stack, kills: int, every_s: float) -> None:
        """Kill the parts in turn."""
        for name in itertools.islice(itertools.cycle(PARTS), kills):
            await asyncio.sleep(every_s)
            if stack.part(name).pid is not None:
                stack.part(name).kill()
                self.kills += 1


async def insisted(call: Callable[[], Awaitable[T]]) -> T:
    """The answer to a call, repeated while parts are away."""
    while True:
        try:
            return await call()
        except (httpx.TransportError, AssertionError, json.JSONDecodeError):
            await asyncio.sleep(0.2)


async def end_one(api: Api, number: int) -> str:
    """A task that is created and cancelled."""
    body = {"taskType": TASK_TYPE, "userId": "user_001", "app": "tests", "payload": "{}"}
    headers = {"Idempotency-Key": f"storm-{number}"}
    task_id: str = (await insisted(lambda: api.post("/tasks", body, headers=headers)))["taskId"]
    await insisted(lambda: api.post(f"/tasks/{task_id}/cancel"))
    return task_id


async def end_all(api: Api, ends: int) -> set[str]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> str:
        async with room:
            return await end_one(api, number)

    return set(await asyncio.gather(*map(one, range(ends))))


async def logged(url: str) -> dict[str, str]:
    """The task of each end, by the event's public id."""
    database = Database(url, connections=1)
    found: dict[str, str] = {}
    after = None
    while True:
        page = await database.run(lambda c, after=after: event_log.read(c, after, types=[EventType.TASK_ENDED]))  # type: ignore[misc]
        found |= {str(page.of(event)): str(event.task_id) for event in page.events}
        if not page.events:
            await database.close()
            return found
        after = page.until


async def run(ends: int, kills: int, every_s: float, seed: int = 1) -> dict[str, Any]:
    """The figures. Raises AssertionError if an end is missing, changed, or has another id."""
    storm = Storm(seed)
    with tempfile.TemporaryDirectory() as folder:
        settings = stack_settings(begun(Path(folder)), webhook_retries=TRIES, monitor_interval=2)
        async with (
            Receiver(choose=storm.choose) as receiver,
            thrown_away(Stack(settings, nodes=0)) as stack,
            frontend(stack) as api,
        ):
            storm.secret = (await api.post("/webhooks", {"url": receiver.url(), "events": ["task.ended"]}))["secret"]
            began = time.monotonic()
            killing = asyncio.create_task(storm.kill(stack, kills, every_s))
            tasks = await end_all(api, ends)
            await killing
            await eventually(lambda: asyncio.sleep(0.1, len(storm.accepted) >= ends), within=WITHIN_S)
            took_s = time.monotonic() - began
            for name in PARTS:
                await stack.part(name).until_ready(60)
            known = await logged(stack.services.database_url)
    assert not storm.refused
    assert storm.changed == 0
    assert set(known.values()) == tasks
    assert storm.accepted.keys() == known.keys()
    assert {one.id: json.loads(one.body)["taskId"] for one in storm.accepted.values()} == known
    return {"ends": ends, "requests": storm.requests, "kills": storm.kills, "seconds": round(took_s)}


def main() -> int:
    """The last line of standard output is one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.webhook_storm", description=__doc__)
    parser.add_argument("--ends", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    sys.stdout.write(f"{json.dumps(asyncio.run(run(args.ends, args.kills, args.every, args.seed)))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
