"""The addresses of our own Postgres, Redis, Temporal and API. No node may register there (INVARIANTS, "Who may call
what")."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import unquote, urlsplit

import psutil
from redis.asyncio.connection import parse_url

from infra.environment import service_urls
from infra.environment.own_address import is_wildcard
from infra.settings import Settings

log = logging.getLogger(__name__)

Address = IPv4Address | IPv6Address

REFRESH_S, REPEAT_S = 60.0, 5.0  # seconds between refreshes, and after a failed one
RESOLVE_S = 3.0
POSTGRES_PORT, REDIS_PORT = 5432, 6379
WEB_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Endpoint:
    """One service. `host` may be a name, an address, or a wildcard that means every address of this machine."""

    host: str
    port: int


def endpoints(settings: Settings) -> frozenset[Endpoint]:
    """Every place where one of our services listens, according to the settings. Services on Unix sockets have none."""
    temporal, _, port = (settings.temporal_address or f"127.0.0.1:{settings.temporal_port}").rpartition(":")
    found = {(settings.host, settings.port), (temporal, int(port)), (temporal, settings.temporal_ui_port)}
    if settings.database_url:
        found.update(_of_postgres(settings.database_url))
    if settings.redis_url:
        found.update(_of_redis(settings.redis_url))
    if settings.public_url:
        parts = urlsplit(settings.public_url)
        found.add((str(parts.hostname), parts.port or WEB_PORTS[parts.scheme]))
    return frozenset(Endpoint(host.strip("[]").lower(), port) for host, port in found)


def _of_postgres(url: str) -> Iterator[tuple[str, int]]:
    """Each of its hosts at each of its ports, whichever libpq uses together."""
    options = service_urls.postgres_options(url)
    places = f"{options.get('host', '')},{options.get('hostaddr', '')}".split(",")
    for host in filter(None, map(unquote, places)):
        for port in str(options.get("port", "")).split(","):
            if not host.startswith(("/", "@")):  # a Unix socket
                yield host, int(port or POSTGRES_PORT)


def _of_redis(url: str) -> Iterator[tuple[str, int]]:
    options = parse_url(url)
    if "path" not in options:
        yield str(options.get("host", "localhost")), int(options.get("port", REDIS_PORT))


class OwnServices:
    """The endpoints with their names resolved. Questions are answered without waiting, by the last refresh."""

    def __init__(self, settings: Settings) -> None:
        self._endpoints = endpoints(settings)
        self._interfaces = _interfaces()
        self._found = {host: _literal(host) for host in {endpoint.host for endpoint in self._endpoints}}

    def include(self, address: Address, port: int) -> bool:
        """Whether one of our services is known to listen there."""
        return any(one.port == port and self._is_at(one.host, address) for one in self._endpoints)

    async def refresh(self) -> bool:
        """Look up names and interfaces again. Returns False if a look-up failed; its last answer is kept."""
        try:
            self._interfaces = await asyncio.to_thread(_interfaces)
        except OSError as error:
            log.warning("cannot list local addresses: %s", error)
            return False
        names = [host for host in self._found if not is_wildcard(host) and not _literal(host)]
        return all(await asyncio.gather(*map(self._resolve, names)))

    async def keep_fresh(self) -> None:
        """Refresh repeatedly, until cancelled."""
        pause = REPEAT_S
        while True:
            await asyncio.sleep(pause)
            pause = REFRESH_S if await self.refresh() else REPEAT_S

    async def _resolve(self, host: str) -> bool:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_S):
                answers = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)  # in a thread
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
            log.warning("cannot resolve %s, one of our services: %s", host, error or "timeout")
            return False
        self._found[host] = frozenset(_address(str(answer[4][0])) for answer in answers)
        return True

    def _is_at(self, host: str, address: Address) -> bool:
        found = self._found[host]
        if address in found:
            return True
        # A service on this machine may listen on all of its addresses, whichever we know it by.
        here = is_wildcard(host) or any(map(self._is_here, found))
        return here and self._is_here(address)

    def _is_here(self, address: Address) -> bool:
        return address.is_loopback or address.is_unspecified or address in self._interfaces


def _literal(host: str) -> frozenset[Address]:
    try:
        return frozenset({_address(host)})
    except ValueError:
        return frozenset()


def _interfaces() -> frozenset[Address]:
    """The addresses of this machine."""
    families = (socket.AF_INET, socket.AF_INET6)
    every = [one for addresses in psutil.net_if_addrs().values() for one in addresses if one.family in families]
    return frozenset(_address(one.address) for one in every)


def _address(text: str) -> Address:
    """The address without its zone, which only names an interface."""
    return ip_address(text.partition("%")[0])
