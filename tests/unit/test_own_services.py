"""Where our own services are, at which no node may be."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from infra.nodes.address_policy import AllowList
from infra.nodes.own_services import Endpoint, OwnServices, endpoints
from infra.settings import Settings
from tests.unit.addresses import EVERYWHERE, allow_list, allows, settle_machine


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    settle_machine(monkeypatch)


def names(monkeypatch: pytest.MonkeyPatch, known: dict[str, list[str]]) -> None:
    """A resolver that knows these names, and no others."""

    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("postgresql://10.1.1.1:6000/db", [("10.1.1.1", 6000)]),
        ("postgresql+psycopg://user:p%40ss@10.1.1.1/db", [("10.1.1.1", 5432)]),  # pragma: allowlist secret
        ("postgresql://user:a/b?c@10.1.1.1/db", [("10.1.1.1", 5432)]),
        ("postgresql://[fd12::1]:6000/db", [("fd12::1", 6000)]),
        ("postgresql://[fd12::1]/db", [("fd12::1", 5432)]),
        ("postgresql://user@h1,h2/db", [("h1", 5432), ("h2", 5432)]),
        ("postgresql:///db?host=h1&port=6000", [("h1", 6000)]),
        ("postgresql:///db?host=h1:6&host=h2:7", [("h1", 6), ("h1", 7), ("h2", 6), ("h2", 7)]),
        ("postgresql:///db?host=h1,h2&port=1,2", [("h1", 1), ("h1", 2), ("h2", 1), ("h2", 2)]),
        ("postgresql://h1/db?hostaddr=10.1.1.1", [("h1", 5432), ("10.1.1.1", 5432)]),
        ("postgresql:///db?host=fd12::1", [("fd12::1", 5432)]),
        ("postgresql:///db?host=/run/postgres", []),
        ("postgresql://%2Frun%2Fpostgres/db", []),
        ("postgresql:///db", []),
    ],
)
def test_where_postgres_is(url: str, found: list[tuple[str, int]]) -> None:
    others = endpoints(Settings())
    assert endpoints(Settings(database_url=url)) - others == {Endpoint(*each) for each in found}


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://cache/0", [("cache", 6379)]),
        ("rediss://:secret@Cache:6380/0", [("cache", 6380)]),
        ("redis://localhost", [("localhost", 6379)]),
        ("redis://?host=cache", [("cache", 6379)]),
        ("unix:///run/redis.sock", []),
    ],
)
def test_where_redis_is(url: str, found: list[tuple[str, int]]) -> None:
    assert endpoints(Settings(redis_url=url)) - endpoints(Settings()) == {Endpoint(*each) for each in found}


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, [("127.0.0.1", 7233), ("127.0.0.1", 8233), ("127.0.0.1", 8080)]),
        (
            {"temporal_address": "temporal:7000", "temporal_ui_port": 80},
            [("temporal", 7000), ("temporal", 80), ("127.0.0.1", 8080)],
        ),
        ({"temporal_address": "[fd12::1]:7233"}, [("fd12::1", 7233), ("fd12::1", 8233), ("127.0.0.1", 8080)]),
        (
            {"public_url": "https://[fd12::9]/gpu", "host": "::", "port": 80},
            [("fd12::9", 443), ("::", 80), ("127.0.0.1", 7233), ("127.0.0.1", 8233)],
        ),
    ],
)
def test_where_temporal_and_the_api_are(settings: dict[str, Any], found: list[tuple[str, int]]) -> None:
    assert endpoints(Settings(**settings)) == {Endpoint(*each) for each in found}


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.0.0.2", "10.0.0.7", "::1", "fd12::7"])
@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.7", "0.0.0.0", "::", "::1", ""])
def test_a_service_on_this_machine_is_refused_at_all_its_addresses(host: str, ip: str) -> None:
    allowed = allow_list(host=host)
    assert not allows(allowed, ip, 8080)
    assert allows(allowed, ip, 8081)


def test_a_service_elsewhere_is_refused_where_it_is() -> None:
    allowed = allow_list(database_url="postgresql://10.9.9.9/db", host="0.0.0.0")
    assert not allows(allowed, "10.9.9.9", 5432)
    assert allows(allowed, "10.9.9.9", 8080)
    assert allows(allowed, "10.9.9.10", 5432)
    assert allows(allowed, "127.0.0.1", 5432)


async def test_names_are_resolved_and_a_lost_one_keeps_its_addresses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = {"db": ["10.5.5.5", "10.5.5.6"], "localhost": ["127.0.0.1"]}
    names(monkeypatch, known)
    settings = Settings(
        node_networks=EVERYWHERE,
        database_url="postgresql://db/x",
        redis_url="redis://localhost",
        temporal_address="gone:7000",
    )
    own = OwnServices(settings)
    allowed = AllowList.of_nodes(settings, own)
    assert allows(allowed, "10.5.5.5", 5432)
    assert not await own.refresh()
    assert "gone" in caplog.text
    assert not any(allows(allowed, *each) for each in [("10.5.5.5", 5432), ("10.5.5.6", 5432), ("10.0.0.7", 6379)])
    known |= {"db": ["10.5.5.7"], "gone": ["10.6.6.6"]}
    assert await own.refresh()
    assert not any(allows(allowed, *each) for each in [("10.5.5.7", 5432), ("10.6.6.6", 7000)])
    assert allows(allowed, "10.5.5.5", 5432)
    known.clear()
    assert not await own.refresh()
    assert not allows(allowed, "10.5.5.7", 5432)


async def test_a_slow_resolver_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go = threading.Event(), threading.Event()

    def resolve(*_: Any, **__: Any) -> list[Any]:
        asked.set()
        assert go.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.5.5.5", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    settings = Settings(node_networks=EVERYWHERE, database_url="postgresql://db/x")
    own = OwnServices(settings)
    refreshing = asyncio.create_task(own.refresh())
    try:
        assert await asyncio.to_thread(asked.wait, 20)
        assert allows(AllowList.of_nodes(settings, own), "10.5.5.5", 5432)
    finally:
        go.set()
    assert await refreshing
    assert not allows(AllowList.of_nodes(settings, own), "10.5.5.5", 5432)


async def test_it_is_kept_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    answers = [True, False]

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def refresh() -> bool:
        if not answers:
            raise asyncio.CancelledError
        return answers.pop()

    own = OwnServices(Settings())
    monkeypatch.setattr("infra.nodes.own_services.asyncio.sleep", sleep)
    monkeypatch.setattr(own, "refresh", refresh)
    with pytest.raises(asyncio.CancelledError):
        await own.keep_fresh()
    assert pauses == [5, 5, 60]
