"""Hostile callers, in a process of their own: `python -m tests.bench.attacker HOST PORT`.

Each attack runs for a given number of seconds and returns how often each status came back. It offers calls at a rate of
its own: refusals and late answers slow only its connections, each of which has one call at a time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from tests.bench import companion
from tests.bench.wire import Connection, WireError

MIB = 1024 * 1024
STRUCTURE = b"[" + b"[]," * ((MIB - 4096) // 3) + b"[]]"
RESULT_OF_BRACKETS = b'{"result":"%b"}' % STRUCTURE
HEAD = b"%b /api/v2%b HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %b\r\n%bContent-Length: %d\r\n\r\n"
JSON = b"Content-Type: application/json\r\n"
FLOOD = b"GET /healthz HTTP/1.1\r\nHost: bench\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"x" * 8000) for n in range(600))
SMALL_BUFFER = 4096
MOST_TYPES = 64

Make = Callable[[int], bytes]


@dataclass(frozen=True)
class Attack:
    """Calls a second over a number of connections, each made from its number; `reads` is whether its answer is read."""

    per_s: float
    connections: int
    make: Make
    reads: bool = True


def attack(name: str, keys: dict[str, str], task_id: str) -> Attack:
    """One of `tests.bench.hostile.ATTACKS`."""
    user, node = keys["user"].encode(), keys["node"].encode()
    read = _call(b"GET", b"/tasks/%b/result" % task_id.encode(), user)
    attacks = {
        "structure bodies": Attack(20, 4, _same(_call(b"POST", b"/tasks", user, b'{"x":%b}' % STRUCTURE))),
        "structure results": Attack(20, 4, _same(_call(b"POST", b"/tasks/none/result", node, RESULT_OF_BRACKETS))),
        "result reads": Attack(20, 4, _same(read)),
        "readers that never read": Attack(400, 400, _same(read), reads=False),
        "header floods": Attack(40, 8, _same(FLOOD)),
        "one wrong key": Attack(850, 16, _same(_call(b"GET", b"/tasks", b"wrong"))),
        "wrong keys": Attack(850, 16, lambda n: _call(b"GET", b"/tasks", b"wrong-%d" % n)),
        "a tenant and a node at once": Attack(
            100,
            64,
            _in_turn(
                _call(b"GET", b"/tasks?size=100", user), _call(b"POST", b"/tasks/none/result", node, RESULT_OF_BRACKETS)
            ),
        ),
        "greedy registrations": Attack(200, 8, lambda n: _call(b"POST", b"/gpus/register", node, _greedy(n))),
    }
    return attacks[name]


def _same(request: bytes) -> Make:
    return lambda _: request


def _in_turn(*requests: bytes) -> Make:
    return lambda number: requests[number % len(requests)]


def _call(method: bytes, path: bytes, key: bytes, body: bytes = b"") -> bytes:
    return HEAD % (method, path, key, JSON if body else b"", len(body)) + body


def _greedy(number: int) -> bytes:
    """A node of a new name with as many types and slots as a node may have."""
    return json.dumps(
        {
            "gpuId": f"greedy-{number}",
            "hostname": "greedy",
            "ip": "127.0.0.1",
            "port": 9,
            "supportedTaskTypes": [1000 + (number * 7 + n) % 1000 for n in range(MOST_TYPES)],
            "supportedTaskPriority": "VIP",
            "maxConcurrentTasks": 1024,
        }
    ).encode()


class Run:
    """One attack, for `seconds`."""

    def __init__(self, chosen: Attack, where: tuple[str, int], seconds: float) -> None:
        self.counts: Counter[str] = Counter()
        self._chosen = chosen
        self._where = where
        self._seconds = seconds
        self._numbers = count()
        self._began = time.perf_counter()

    async def all(self) -> None:
        """Run every lane to its end."""
        lane = self._reading if self._chosen.reads else self._stalling
        async with asyncio.TaskGroup() as lanes:
            for _ in range(self._chosen.connections):
                lanes.create_task(lane())

    async def _reading(self) -> None:
        connection: Connection | None = None
        while (number := await self._due()) is not None:
            try:
                if connection is None or not connection.open:
                    connection = await self._connect()
                async with asyncio.timeout(max(0.1, self._left())):
                    reply = await connection.ask(self._chosen.make(number))
                self.counts[reply.message.head[9:12].decode()] += 1
            except (WireError, OSError) as error:
                self.counts["late" if isinstance(error, TimeoutError) else "closed"] += 1
                if connection is not None:
                    connection.close()
                connection = None

    async def _stalling(self) -> None:
        number = await self._due()
        if number is not None:
            _, writer = await asyncio.open_connection(*self._where, limit=SMALL_BUFFER)
            writer.write(self._chosen.make(number))
            self.counts["held"] += 1
            await asyncio.sleep(max(0.0, self._left()))
            writer.transport.abort()

    async def _connect(self) -> Connection:
        _, fresh = await asyncio.get_running_loop().create_connection(Connection, *self._where)
        return fresh

    async def _due(self) -> int | None:
        """Wait until the next call is due. Returns its number, or None after the end."""
        number = next(self._numbers)
        at = number / self._chosen.per_s
        await asyncio.sleep(max(0.0, min(at, self._seconds) - (time.perf_counter() - self._began)))
        return number if at < self._seconds and self._left() > 0 else None

    def _left(self) -> float:
        return self._began + self._seconds - time.perf_counter()


class Attacker:
    """Carries out one attack after the other."""

    def __init__(self, host: str, port: int) -> None:
        self._where = (host, port)

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Takes `attack`, `seconds`, and the arguments of `attack`; answers how often each status came."""
        chosen = attack(question["attack"], question["keys"], question["task"])
        run = Run(chosen, self._where, question["seconds"])
        await run.all()
        return dict(run.counts)


if __name__ == "__main__":
    asyncio.run(companion.serve(Attacker(sys.argv[1], int(sys.argv[2])).answer))
