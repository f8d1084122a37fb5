"""HTTP calls to nodes: to allowed addresses only, bounded in time and size.

No redirect is followed, no proxy from the environment is used, no cookie is kept. A node's answer is untrusted input.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from infra.nodes.address import NodeAddress
from infra.nodes.address_policy import AllowList
from infra.nodes.answer import NodeAnswer, read

NO_HTTP = 0  # the status of an answer that is no HTTP
CONNECT_S = 2.0
TOTAL_S = 4.5  # from the call to the last byte of its answer: a node that drips does not hold us longer
IDLE_S = 10.0  # until an idle connection is closed: a large fleet must not use up our files
OUR_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class NodeUnreachable(Exception):
    """The node gave no answer."""


class OwnShortage(Exception):
    """We ran out of files or memory for a connection; the node is not at fault."""


class NodeHttp:
    """One session for the calls to all nodes."""

    def __init__(self, allowed: AllowList) -> None:
        self._allowed = allowed
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def call(
        self,
        method: str,
        node: NodeAddress,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> NodeAnswer:
        """Call a node. Raises NodeUnreachable, OwnShortage, and ForbiddenAddress if the node may not be there."""
        self._allowed.check(node.ip, node.port)
        headers, data = dict(headers or {}), None
        if body is not None:
            headers["Content-Type"], data = "application/json", msgspec.json.encode(body)
        if node.secret:
            headers["Authorization"] = f"Bearer {node.secret}"
        url = URL(node.base + path, encoded=True)
        try:
            async with (
                asyncio.timeout(TOTAL_S),
                self._http.request(method, url, data=data, headers=headers, allow_redirects=False) as response,
            ):
                return await read(response)
        except aiohttp.ClientResponseError:
            return NodeAnswer(NO_HTTP, {})
        except (aiohttp.ClientError, TimeoutError) as error:
            if any(isinstance(one, OSError) and one.errno in OUR_SHORTAGES for one in _chain(error)):
                raise OwnShortage(OwnShortage.__doc__) from error
            raise NodeUnreachable(type(error).__name__) from error

    @property
    def _http(self) -> aiohttp.ClientSession:
        """The session. The first call makes it, since it belongs to a running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                skip_auto_headers=("Content-Type", "User-Agent"),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                # No bound of our own: the worker bounds its activities, and a full pool would look like a dead
                # node.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),
            )
        return self._session


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
