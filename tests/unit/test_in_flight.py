"""One lineage among many: what it sends at once takes no more of a process than its share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import Request
from redis.exceptions import MaxConnectionsError

from api.http.body import MAX_BODY
from api.middleware.byte_limit import STEP, ByteLimit
from api.middleware.in_flight import AT_ONCE, InFlight, turn_of
from infra.cache import AT_ONCE as CALLS_AT_ONCE
from infra.cache import Cache
from infra.db.access.callers import Caller
from infra.json.off_loop import OffLoop, lineage
from infra.resilience.token_bucket import Rate
from infra.settings import Settings
from workflows.domain.role import Role

CHUNKED = [(b"transfer-encoding", b"chunked")]


class App:
    """Reads a whole body, and answers when the gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.working: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.working.append(scope["state"]["caller"].lineage)
        while (await receive()).get("more_body"):
            pass
        await self.gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def call(app: Any, of: str, role: Role = Role.USER, path: str = "/tasks", **more: Any) -> asyncio.Task[int]:
    """A call whose answer is its status."""
    scope = {"type": "http", "method": "POST", "path": f"/api/v2{path}", "headers": more.get("headers", [])}
    body: list[bytes] = more.get("body", [b""])
    pieces: Iterator[bytes] = iter(body)

    async def receive() -> Any:
        return {"type": "http.request", "body": next(pieces), "more_body": pieces.__length_hint__() > 0}  # type: ignore[attr-defined]

    async def ask() -> int:
        statuses: list[int] = []

        async def send(message: Any) -> None:
            statuses.append(message.get("status", 0))

        await app(scope | {"state": {"caller": Caller("k", role, "u", of)}}, receive, send)
        return statuses[0]

    return asyncio.create_task(ask())


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("role", [Role.USER, Role.NODE])
async def test_the_calls_of_a_lineage_in_flight_are_limited(role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.middleware.in_flight.TURN_S", 0.05)
    app, most = App(), AT_ONCE[role]
    limited = InFlight(app)
    calls = [call(limited, "greedy", role) for _ in range(most + 1)]
    other = call(limited, "modest", role)
    await settled()
    assert (app.working.count("greedy"), app.working.count("modest")) == (most, 1)
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    app.gate.set()
    assert [await one for one in calls] == [200] * most + [429]
    assert await other == 200


async def test_a_burst_waits_for_its_turn() -> None:
    app = App()
    limited = InFlight(app)
    calls = [call(limited, "hasty") for _ in range(200)]
    await settled()
    app.gate.set()
    assert {await one for one in calls} == {200}


async def test_a_node_beats_whatever_else_its_key_does() -> None:
    app = App()
    limited = InFlight(app)
    results = [call(limited, "fleet", Role.NODE, "/tasks/t/result") for _ in range(100)]
    beats = [call(limited, "fleet", Role.NODE, "/gpus/g/heartbeat") for _ in range(5)]
    await settled()
    assert len(app.working) == AT_ONCE[Role.NODE] + len(beats)
    app.gate.set()
    assert {await one for one in results + beats} == {200}


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.ADMIN])
async def test_who_operates_it_has_no_bound(role: Role) -> None:
    app = App()
    calls = [call(InFlight(app), "ours", role) for _ in range(100)]
    await settled()
    assert len(app.working) == 100
    app.gate.set()
    assert {await one for one in calls} == {200}


async def test_bodies_in_chunks_are_charged_when_they_begin() -> None:
    """The bytes of their role bound how many are held open; what was not sent is given back."""
    app = App()
    limited = ByteLimit(app, Cache(None), Settings())
    held = [call(limited, "u", headers=CHUNKED, body=[b"x", b"y"]) for _ in range(100)]
    await settled()
    limit = Settings().bytes_of(Role.USER)
    assert limit is not None
    assert len(app.working) == limit.burst // MAX_BODY + 1
    app.gate.set()
    assert {await one for one in held} == {200, 429}
    assert await call(limited, "u", headers=CHUNKED) == 200


async def test_the_lineages_take_turns_on_the_thread() -> None:
    off_loop, order, gate = OffLoop(), [], threading.Event()

    async def piece(of: str) -> None:
        lineage.set(of)

        def work() -> None:
            gate.wait(10)
            order.append(of)

        await off_loop.run(1 << 20, work)

    pieces = [asyncio.create_task(piece("greedy")) for _ in range(40)]
    await settled()
    pieces += [asyncio.create_task(piece("modest")) for _ in range(3)]
    await settled()
    gate.set()
    await asyncio.gather(*pieces)
    assert order[:6] == ["greedy", "modest"] * 3


class SlowRedis:
    """A Redis that runs nothing but scripts."""

    def __init__(self) -> None:
        self.asked = self.most = 0

    def register_script(self, _: str) -> Callable[..., Any]:
        async def script(**_: Any) -> str:
            self.asked += 1
            self.most = max(self.most, self.asked)
            await asyncio.sleep(0.001)
            self.asked -= 1
            return "0"

        return script


async def test_redis_is_asked_by_no_more_than_have_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.cache.ANSWER_S", 60.0)  # a busy machine is not what is tried here
    redis = SlowRedis()
    cache = Cache(redis)  # type: ignore[arg-type]
    answers = await asyncio.gather(*(cache.take("u", Rate(rate=1, burst=1)) for _ in range(500)))
    assert set(answers) == {0.0}
    assert redis.most == CALLS_AT_ONCE


class FullPool:
    """A client whose connections are all in use at the first call."""

    def __init__(self) -> None:
        self.asked = 0

    def register_script(self, _: str) -> Callable[..., Any]:
        async def script(**_: Any) -> str:
            self.asked += 1
            if self.asked == 1:
                raise MaxConnectionsError
            return "0"

        return script


async def test_redis_is_not_away_where_our_connections_are_used_up() -> None:
    cache = Cache(FullPool())  # type: ignore[arg-type]
    assert [await cache.take("u", Rate(rate=1, burst=1)) for _ in range(2)] == [None, 0.0]


async def test_what_only_waits_gives_its_turn_back() -> None:
    app = Waits()
    limited = InFlight(app)
    calls = [call(limited, "patient") for _ in range(5 * AT_ONCE[Role.USER])]
    await settled()
    assert app.waiting == len(calls)
    app.gate.set()
    assert {await one for one in calls} == {200}
    assert app.most_at_once <= AT_ONCE[Role.USER]
    await asyncio.gather(*(call(limited, "patient") for _ in range(AT_ONCE[Role.USER])))  # every turn is there again


class Waits:
    """Waits without its turn, and answers with it."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.waiting = self.most_at_once = self._working = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with turn_of(Request(scope)).lent():
            self.waiting += 1
            await self.gate.wait()
        self._working += 1
        self.most_at_once = max(self.most_at_once, self._working)
        await asyncio.sleep(0)
        self._working -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def test_a_stream_is_charged_while_it_lasts() -> None:
    """One that is followed for hours would be charged for all of it at its end."""
    app = ByteLimit(_stream, Cache(None), Settings())
    assert await call(app, "follower") == 200
    assert await call(app, "follower") == 429


async def _stream(scope: Any, receive: Any, send: Any) -> None:
    limit = Settings().bytes_of(Role.USER)
    assert limit is not None
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(2 * int(limit.burst) // STEP):
        await send({"type": "http.response.body", "body": b"x" * STEP, "more_body": True})
