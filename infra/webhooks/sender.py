"""Calls to receivers: to checked addresses only, bounded in time and size.

A name is looked up for each try, every address that it leads to is checked, and the connection is made to one of
those. No connection outlives its try, so the next one is checked again. No redirect is followed, no proxy from the
environment is used, no cookie is kept. Only the head of an answer is read.
"""

from __future__ import annotations

import asyncio
import email.utils
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import AddrInfoType

from infra.webhooks.addresses import ReceiverAddresses
from infra.webhooks.names import Names, NotBegun
from infra.webhooks.target import BadUrl, Target, parse
from infra.webhooks.tries import MOST, Tries
from workflows.domain.errors import ForbiddenReceiver

TOTAL_S = 15.0
"""Seconds for a try: look-up, connection, and the head of the answer."""
LOOK_UP_S = 2.0
"""Seconds for a look-up that a caller of the API waits for."""
OF_A_FAMILY = 2
"""Addresses of IPv4, and of IPv6, to which a try connects: one that hangs is left open while the next is tried."""
MOST_READ = 64 * 1024
"""Bytes of an answer, those before its final head among them. The connection ends there."""
MAX_RETRY_AFTER_S = 86_400.0
ASKS_FOR_TIME = frozenset({429, 502, 503, 504})
"""Statuses whose Retry-After counts."""

LookUp = Callable[[str, str], Awaitable[Sequence[str]]]
"""The addresses of a name, for an owner. Raises OSError, NotBegun."""


class Trouble(StrEnum):
    """Why a try got no answer."""

    URL = "URL"
    ADDRESS = "ADDRESS"  # the receiver may not be there
    NAME = "NAME"  # it has no address
    TLS = "TLS"
    CONNECTION = "CONNECTION"
    TIMEOUT = "TIMEOUT"
    ERROR = "ERROR"  # ours, which the log describes


@dataclass(frozen=True)
class ReceiverAnswer:
    """The end of a try: a status, or the reason why there is none."""

    status: int | None = None
    trouble: Trouble | None = None
    retry_after_s: float = 0.0
    counts: bool = True
    """False if the try had not begun: no thread was free for its look-up."""

    @property
    def is_accepted(self) -> bool:
        """Whether the receiver has the event."""
        return self.status is not None and 200 <= self.status < 300


class _Checked(AbstractResolver):
    """Looks a name up, checks every address, and takes some."""

    def __init__(self, addresses: Callable[[str], Awaitable[Sequence[str]]]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in _some(await self._addresses(host))
        ]

    async def close(self) -> None:
        """Nothing to close."""


class _BoundedAnswer(ResponseHandler):
    """Reads an answer up to `MOST_READ`."""

    _left = MOST_READ

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        if self._left > 0:
            super().data_received(data[: self._left])
        self._left -= len(data)
        if self._left < 0 and self.transport is not None:
            self.transport.abort()


_ANSWER: type[ResponseHandler] = _BoundedAnswer


class _Connector(aiohttp.TCPConnector):
    """Makes connections whose answers are bounded; aiohttp bounds the lines of a head, not the head."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_ANSWER, loop=self._loop)


_target: ContextVar[Target] = ContextVar("target")
"""The target that the current task calls."""
_owner: ContextVar[str] = ContextVar("owner")
"""The owner whose receiver that is."""


class Sender:
    """Calls receivers. `tries` counts the calls, as far as they are deliveries."""

    def __init__(
        self,
        allowed: ReceiverAddresses,
        *,
        names: LookUp | None = None,
        tls: ssl.SSLContext | None = None,
        total_s: float = TOTAL_S,
        most: int = MOST,
    ) -> None:
        self.tries = Tries(most)
        self._allowed = allowed
        self._names = names or Names().look_up
        self._tls = tls
        self._total_s = total_s
        self._session: aiohttp.ClientSession | None = None

    async def check(self, owner: str, target: Target) -> None:
        """Look a receiver's name up for an owner, and check each address.

        Raises ForbiddenReceiver, HttpsRequired, OSError, TimeoutError.
        """
        self._allowed.check_name(target)
        try:
            async with asyncio.timeout(LOOK_UP_S):
                await self._addresses(owner, target)
        except NotBegun as error:
            raise TimeoutError from error

    async def send(self, owner: str, url: str, body: bytes, headers: Mapping[str, str]) -> ReceiverAnswer:
        """Make one try for an owner, which the caller has reserved."""
        try:
            target = parse(url)
        except BadUrl:
            return ReceiverAnswer(trouble=Trouble.URL)
        _owner.set(owner)
        _target.set(target)
        return await self._tried(target, body, headers)

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def _tried(self, target: Target, body: bytes, headers: Mapping[str, str]) -> ReceiverAnswer:
        try:
            async with asyncio.timeout(self._total_s), self._call(target, body, headers) as response:
                return ReceiverAnswer(response.status, retry_after_s=_retry_after_s(response))
        except ForbiddenReceiver:
            return ReceiverAnswer(trouble=Trouble.ADDRESS)
        except NotBegun:
            return ReceiverAnswer(trouble=Trouble.TIMEOUT, counts=False)
        except TimeoutError:
            return ReceiverAnswer(trouble=Trouble.TIMEOUT)
        except (aiohttp.ClientConnectorDNSError, aiohttp.InvalidURL):
            return ReceiverAnswer(trouble=Trouble.NAME)
        except aiohttp.ClientSSLError:
            return ReceiverAnswer(trouble=Trouble.TLS)
        except (aiohttp.ClientError, OSError, ValueError):
            return ReceiverAnswer(trouble=Trouble.CONNECTION)

    def _call(self, target: Target, body: bytes, headers: Mapping[str, str]) -> aiohttp.client._RequestContextManager:
        return self._http.post(target.url, data=body, headers=headers, allow_redirects=False)

    @property
    def _http(self) -> aiohttp.ClientSession:
        """The session. The first call makes it, since it belongs to a running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"Accept-Encoding": "identity", "User-Agent": "gpu-orchestrator"},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
                connector=_Connector(
                    limit=0,
                    force_close=True,
                    use_dns_cache=False,
                    resolver=_Checked(self._addresses_of_name),
                    ssl=self._tls or True,
                    socket_factory=self._socket,
                ),
            )
        return self._session

    def _socket(self, info: AddrInfoType) -> socket.socket:
        """The socket of a connection, if its address is allowed: in any form of the URL this is where it leads."""
        family, kind, proto, _, place = info
        self._allowed.check(_target.get(), str(place[0]))
        return socket.socket(family, kind, proto)

    async def _addresses_of_name(self, host: str) -> Sequence[str]:
        return await self._addresses(_owner.get(), _target.get())

    async def _addresses(self, owner: str, target: Target) -> Sequence[str]:
        found = [target.ip] if target.ip is not None else await self._names(owner, target.host)
        for address in found:
            self._allowed.check(target, address)
        return found


def _some(addresses: Sequence[str]) -> list[str]:
    """The first `OF_A_FAMILY` of each family."""
    of_6 = [one for one in addresses if ":" in one][:OF_A_FAMILY]
    of_4 = [one for one in addresses if ":" not in one][:OF_A_FAMILY]
    return [one for one in addresses if one in of_6 or one in of_4]


def _retry_after_s(response: aiohttp.ClientResponse) -> float:
    """How long the receiver asks us to wait: seconds, or until a time; 0 if it does not."""
    text = response.headers.get("Retry-After", "").strip()
    if response.status not in ASKS_FOR_TIME or not text:
        return 0.0
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_S)
    try:
        at = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(at - time.time(), 0.0), MAX_RETRY_AFTER_S)
