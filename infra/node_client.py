"""Calls to nodes (NODE_PROTOCOL, "Orchestrator → node"): to allowed addresses only, bounded in time and size.

No redirect is followed, no proxy of the environment used, no cookie kept. What a node answers is data from outside.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import quote

import httpx

from infra import strict_json
from infra.addresses import AllowList

MAX_ANSWER = 64 * 1024  # bytes
MAX_ERROR = 500  # characters
CONNECT_S = 2.0
TOTAL_S = 4.5  # from the call to the last byte of its answer: a node that drips does not hold us longer
OUR_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class NodeUnreachable(Exception):
    """The node gave no answer."""


class OwnShortage(Exception):
    """We have no file or memory left for a connection: that says nothing about the node."""


@dataclass(frozen=True)
class Answer:
    """A node's answer; `body` is empty unless it was a JSON object of at most 64 KiB whose `status` is a text."""

    status: int
    body: dict[str, Any]

    @property
    def error(self) -> str | None:
        """Why an attempt failed: the only words of an answer that users read, at most 500 characters."""
        text = self.body.get("error")
        return strict_json.UNSTORABLE.sub("", text).strip()[:MAX_ERROR] or None if isinstance(text, str) else None


@dataclass(frozen=True)
class NodeAddress:
    """Where a node is and the secret that it registered."""

    ip: str
    port: int
    secret: str | None

    @property
    def base(self) -> str:
        """`http://ip:port`; an IPv6 address gets its brackets."""
        return f"http://[{self.ip}]:{self.port}" if ":" in self.ip else f"http://{self.ip}:{self.port}"


class NodeClient:
    """Speaks the node protocol. Every call raises ForbiddenAddress where the node may not be (any more)."""

    def __init__(self, allowed: AllowList) -> None:
        self._allowed = allowed
        self._http = httpx.AsyncClient(
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(TOTAL_S, connect=CONNECT_S),
            # No bound of our own: the worker runs only so many activities, and a full pool would look like a dead node.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30),
        )

    async def put(self, node: NodeAddress, run_id: str, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        """`PUT /predictions/{id}`: run this attempt. Raises NodeUnreachable."""
        return await self._call("PUT", node, f"/predictions/{quote(run_id, safe='')}", body, headers)

    async def status(self, node: NodeAddress, run_id: str) -> Answer:
        """`GET /predictions/{id}`: what became of it. Raises NodeUnreachable."""
        return await self._call("GET", node, f"/predictions/{quote(run_id, safe='')}")

    async def cancel(self, node: NodeAddress, run_id: str) -> Answer:
        """`POST /predictions/{id}/cancel`: stop it. Raises NodeUnreachable."""
        return await self._call("POST", node, f"/predictions/{quote(run_id, safe='')}/cancel")

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

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
        if node.secret:
            headers["Authorization"] = f"Bearer {node.secret}"
        try:
            async with (
                asyncio.timeout(TOTAL_S),
                self._http.stream(method, node.base + path, json=body, headers=headers) as response,
            ):
                return Answer(response.status_code, _object(await _bounded(response)))
        except (httpx.HTTPError, TimeoutError) as error:
            if any(isinstance(one, OSError) and one.errno in OUR_SHORTAGES for one in _chain(error)):
                raise OwnShortage(OwnShortage.__doc__) from error
            raise NodeUnreachable(type(error).__name__) from error


async def _bounded(response: httpx.Response) -> bytes:
    """The bytes as they came: what is compressed, though we asked for nothing of the kind, is no JSON."""
    chunks = bytearray()
    async for chunk in response.aiter_raw():
        chunks += chunk
        if len(chunks) > MAX_ANSWER:
            return b""
    return bytes(chunks)


def _object(content: bytes) -> dict[str, Any]:
    """Leniently: a failure must not be lost for a NUL in its `error`; who stores a part of it checks that part."""
    try:
        parsed = strict_json.loads(content)
    except ValueError:
        return {}
    body = parsed if isinstance(parsed, dict) else {}
    return body if isinstance(body.get("status", ""), str) else {}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
