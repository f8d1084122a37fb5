"""Where a node may be: networks, ports, what is refused whatever is allowed, and our own services."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.nodes.address_policy import SPECIAL, AllowList
from infra.nodes.own_services import Endpoint, OwnServices, endpoints
from infra.settings import Settings
from workflows.domain.errors import ForbiddenAddress

PUBLIC = "0.0.0.0/0,::/0"
EVERYWHERE = ",".join([PUBLIC, *map(str, SPECIAL)])
OWN_ADDRESSES = ("127.0.0.1", "10.0.0.7", "::1", "fe80::7%eth0", "fd12::7")
Resolve = Callable[..., list[Any]]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has the addresses OWN_ADDRESSES."""

    def interfaces() -> dict[str, list[Any]]:
        kinds = {True: socket.AF_INET6, False: socket.AF_INET}
        link = SimpleNamespace(family=psutil.AF_LINK, address="00:00:00:00:00:00")
        return {"eth0": [link, *(SimpleNamespace(family=kinds[":" in a], address=a) for a in OWN_ADDRESSES)]}

    monkeypatch.setattr("infra.nodes.own_services.psutil.net_if_addrs", interfaces)


def names(monkeypatch: pytest.MonkeyPatch, known: dict[str, list[str]]) -> None:
    """A resolver that knows these names, and no others."""

    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def allow_list(networks: str = EVERYWHERE, **settings: Any) -> AllowList:
    chosen = Settings(node_networks=networks, **settings)
    return AllowList.of_nodes(chosen, OwnServices(chosen))


def allows(allowed: AllowList, ip: str, port: int = 9000) -> bool:
    try:
        allowed.check(ip, port)
    except ForbiddenAddress:
        return False
    return True


@pytest.mark.parametrize(
    ("networks", "ip", "allowed"),
    [
        ("127.0.0.0/8", "127.0.0.1", True),
        ("127.0.0.0/8", "127.8.8.8", True),
        ("127.0.0.0/8", "192.168.1.100", False),
        ("127.0.0.0/8", "::1", False),
        ("127.0.0.0/8, 192.168.1.0/24", "192.168.1.100", True),
        ("127.0.0.0/8, 192.168.1.0/24", "192.168.2.1", False),
        ("fd12::/64,::1/128", "fd12::42", True),
        ("fd12::/64,::1/128", "FD12:0::0042", True),
        ("fd12::/64,::1/128", "::1", True),
        ("fd12::/64", "fd13::1", False),
    ],
)
def test_the_operators_networks(networks: str, ip: str, allowed: bool) -> None:
    assert allows(allow_list(networks), ip) is allowed


@pytest.mark.parametrize(
    "ip",
    ["localhost", "gpu.example.com", "", "10.0.0", "010.0.0.1", "0x7f.0.0.1", "2130706433", " 10.1.1.1", "10.1.1.1/32"],
)
def test_only_a_literal_address_counts(ip: str) -> None:
    assert not allows(allow_list(), ip)


@pytest.mark.parametrize(
    "ip",
    [
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "169.254.1.1",
        "169.254.169.254",
        "fe80::1",
        "febf::1",
        "fe80::1%eth0",
        "fd34::1%eth0",  # allowed without its zone
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::254%1",
        "fd20:ce::254",
        "224.0.0.1",
        "239.255.255.250",
        "ff02::1",
        "255.255.255.255",
        "::ffff:10.1.1.1",
        "::ffff:127.0.0.1",
        "::ffff:0:10.1.1.1",
        "::127.0.0.1",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b::127.0.0.1",
        "64:ff9b::100.100.100.200",
        "64:ff9b::224.0.0.1",
        "64:ff9b:1::10.1.1.1",
        "2002:a9fe:a9fe::1",  # 6to4 of 169.254.169.254
        "2002:7f00:1::1",
        "2002:e000:1::1",
        "2001:0:4136:e378:8000:63bf:5601:5601",  # Teredo of 169.254.169.254
        "2001:0:4136:e378:8000:63bf:80ff:fffe",  # and of 127.0.0.1
        "2001:0:a9fe:a9fe:8000:63bf:f5ff:fffe",  # a Teredo server at 169.254.169.254
    ],
)
def test_refused_whatever_is_allowed(ip: str) -> None:
    assert not allows(allow_list(), ip)


@pytest.mark.parametrize("ip", ["64:ff9b::10.1.1.1", "2002:a01:101::1", "2001:0:4136:e378:8000:63bf:f5fe:fefe"])
def test_translated_addresses_of_an_allowed_one_are_allowed(ip: str) -> None:
    assert allows(allow_list(), ip)
    assert not allows(allow_list(database_url="postgresql://10.1.1.1:9000/db"), ip)


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1",
        "10.0.0.5",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.100",
        "100.64.0.1",
        "100.127.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "240.0.0.1",
        "::1",
        "fc00::1",
        "fd12::7",
        "fec0::1",
        "2001:db8::1",
        "3fff::1",
        "2002:808:808::1",
        "2001:0:808:808:8000:63bf:f7f7:f7f7",
        "64:ff9b::10.0.0.5",
        "64:ff9b::192.168.0.1",
        "64:ff9b::100.64.0.1",
        "::8.8.8.8",
    ],
)
def test_what_is_not_public_is_refused_where_it_is_not_listed_by_itself(ip: str) -> None:
    assert not allows(allow_list(PUBLIC), ip)
    assert not allows(allow_list(f"{PUBLIC},192.0.0.0/7,8.0.0.0/5,f000::/4,2000::/3"), ip)  # larger than the ranges


@pytest.mark.parametrize(
    "ip",
    ["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0",
     "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "126.255.255.255", "128.0.0.0",
     "2606:4700::1111", "2001:200::1", "64:ff9b::8.8.8.8"],
)  # fmt: skip
def test_what_is_public_is_allowed_everywhere(ip: str) -> None:
    assert allows(allow_list(PUBLIC), ip)


@given(st.ip_addresses())
def test_everywhere_means_no_address_that_python_calls_not_global(address: Any) -> None:
    assert address.is_global or not allows(allow_list(PUBLIC), str(address))


@pytest.mark.parametrize(
    ("networks", "ip", "allowed"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.0.0/16", "10.1.2.3", True),
        ("10.1.0.0/16", "10.2.0.1", False),
        ("10.0.0.0/7", "10.1.2.3", False),
        ("0.0.0.0/0,10.0.0.0/8", "10.1.2.3", True),
        ("0.0.0.0/0,10.0.0.0/8", "8.8.8.8", True),
        ("0.0.0.0/0,10.0.0.0/8", "172.16.0.1", False),
        ("0.0.0.0/0,127.0.0.0/8", "127.0.0.1", True),
        ("0.0.0.0/0,::1/128", "127.0.0.1", False),
        ("::/0,fd12::/16", "fd12::1", True),
        ("::/0,fd12::/16", "fd13::1", False),
        ("100.64.0.0/10", "100.64.0.1", True),
        ("192.0.2.0/24", "192.0.2.1", True),
        (f"{PUBLIC},10.0.0.0/8", "64:ff9b::10.1.1.1", True),
        (f"{PUBLIC},10.0.0.0/8", "2002:a01:101::1", False),
        (f"{PUBLIC},2002::/16", "2002:a01:101::1", False),
        (f"{PUBLIC},2002::/16", "2002:808:808::1", True),
        (f"{PUBLIC},10.0.0.0/8,2002::/16", "2002:a01:101::1", True),
        (f"{PUBLIC},127.0.0.0/8", "64:ff9b::127.0.0.1", False),
    ],
)
def test_a_special_network_that_is_listed_is_allowed(networks: str, ip: str, allowed: bool) -> None:
    assert allows(allow_list(networks), ip) is allowed


@pytest.mark.parametrize(("port", "allowed"), [(7999, False), (8000, True), (8999, True), (9000, False), (9100, True)])
def test_the_operators_ports(port: int, allowed: bool) -> None:
    assert allows(allow_list(node_ports="8000-8999,9100"), "10.1.1.1", port) is allowed


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
