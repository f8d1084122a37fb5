"""Calls to nodes (NODE_PROTOCOL, "Orchestrator → node"): to allowed addresses only, bounded in time and size.

No redirect is followed, no proxy from the environment is used, no cookie is kept. A node's answer is untrusted input.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from infra.json import strict_json
from infra.nodes.address import NodeAddress
from infra.nodes.address_policy import AllowList
from workflows.domain.errors import ForbiddenAddress

MAX_ANSWER = 64 * 1024  # bytes
MAX_ERROR = 500  # characters
NO_HTTP = 0  # the status of an answer that is no HTTP
CONNECT_S = 2.0
TOTAL_S = 4.5  # from the call to the last byte of its answer: a node that drips does not hold us longer
IDLE_S = 10.0  # until an idle connection is closed: a large fleet must not use up our files
READINESS = frozenset({"READY", "BUSY", "STARTING", "SETUP_FAILED", "DEFUNCT"})
READINESS_S = 0.5  # it is asked while a dispatch waits
OUR_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class _WithOutput(msgspec.Struct):
    output: msgspec.Raw


_WITH_OUTPUT = msgspec.json.Decoder(_WithOutput)


class NodeUnreachable(Exception):
    """The node gave no answer."""


class OwnShortage(Exception):
    """We have no file or memory left for a connection: that says nothing about the node."""


@dataclass(frozen=True)
class Answer:
    """A node's answer. `body` is empty unless it was a JSON object of at most 64 KiB whose `status` is a text."""

    status: int
    body: dict[str, Any]
    output: str | None = None  # JSON text as the node wrote it, if there is one

    @property
    def error(self) -> str | None:
        """The reason of a failed attempt, at most 500 characters: the only words of an answer that users read."""
        return self._words("error")

    @property
    def reason(self) -> str | None:
        """Why a node is not ready, at most 500 characters: for operators."""
        return self._words("reason")

    def _words(self, name: str) -> str | None:
        text = self.body.get(name)
        return strict_json.UNSTORABLE.sub("", text).strip()[:MAX_ERROR] or None if isinstance(text, str) else None


class NodeClient:
    """Speaks the node protocol. Every call raises ForbiddenAddress if the node may not be there, or no longer."""

    def __init__(self, allowed: AllowList) -> None:
        self._allowed = allowed
        self._session: aiohttp.ClientSession | None = None

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

    async def put(self, node: NodeAddress, run_id: str, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        """`PUT /predictions/{id}`: run this attempt. Raises NodeUnreachable."""
        return await self._call("PUT", node, f"/predictions/{quote(run_id, safe='')}", body, headers)

    async def status(self, node: NodeAddress, run_id: str) -> Answer:
        """`GET /predictions/{id}`: what became of it. Raises NodeUnreachable."""
        return await self._call("GET", node, f"/predictions/{quote(run_id, safe='')}")

    async def cancel(self, node: NodeAddress, run_id: str) -> Answer:
        """`POST /predictions/{id}/cancel`: stop it. Raises NodeUnreachable."""
        return await self._call("POST", node, f"/predictions/{quote(run_id, safe='')}/cancel")

    async def readiness(self, node: NodeAddress) -> tuple[str, str | None] | None:
        """`GET /health-check`: the node's state and the reason that it gives; None without a valid answer soon."""
        try:
            async with asyncio.timeout(READINESS_S):
                answer = await self._call("GET", node, "/health-check")
        except (TimeoutError, NodeUnreachable, ForbiddenAddress):
            return None
        state = answer.body.get("status")
        return (state, answer.reason) if state in READINESS else None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _call(
        self,
        method: str,
        node: NodeAddress,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        self._allowed.check(node.ip, node.port)
        headers = dict(headers or {})
        if body is not None:
            headers["Content-Type"] = "application/json"
        if node.secret:
            headers["Authorization"] = f"Bearer {node.secret}"
        url = URL(node.base + path, encoded=True)
        try:
            async with (
                asyncio.timeout(TOTAL_S),
                self._http.request(
                    method, url, data=_encoded(body), headers=headers, allow_redirects=False
                ) as response,
            ):
                content = await _bounded(response)
                body = _object(content)
                return Answer(response.status, body, _output(content, body) if "output" in body else None)
        except aiohttp.ClientResponseError:
            return Answer(NO_HTTP, {})
        except (aiohttp.ClientError, TimeoutError) as error:
            if any(isinstance(one, OSError) and one.errno in OUR_SHORTAGES for one in _chain(error)):
                raise OwnShortage(OwnShortage.__doc__) from error
            raise NodeUnreachable(type(error).__name__) from error


def _encoded(body: dict[str, Any] | None) -> bytes | None:
    return None if body is None else msgspec.json.encode(body)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """The bytes as sent: a compressed answer, which we did not request, is not JSON."""
    chunks = bytearray()
    async for chunk in response.content.iter_any():
        chunks += chunk
        if len(chunks) > MAX_ANSWER:
            response.close()  # what comes after it is not waited for
            return b""
    return bytes(chunks)


def _object(content: bytes) -> dict[str, Any]:
    """Parse leniently: a failure must not be lost to a NUL in its `error`. Whoever stores a part of it checks that
    part."""
    try:
        parsed = strict_json.loads(content)
    except ValueError:
        return {}
    body = parsed if isinstance(parsed, dict) else {}
    return body if isinstance(body.get("status", ""), str) else {}


def _output(content: bytes, body: dict[str, Any]) -> str:
    """The `output` as it is written; of what only Python reads as JSON, another writing, which is refused later."""
    try:
        return bytes(_WITH_OUTPUT.decode(content).output).decode()
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return json.dumps(body["output"], ensure_ascii=False)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
