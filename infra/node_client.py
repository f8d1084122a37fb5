"""Calls to nodes (NODE_PROTOCOL, "Orchestrator → node"): no redirects, no proxies, bounded in time and size."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

MAX_ANSWER = 64 * 1024  # bytes
CONNECT_S = 2.0
READ_S = 4.0


class NodeUnreachable(Exception):
    """The node gave no answer."""


@dataclass(frozen=True)
class Answer:
    """A node's answer; `body` is empty where it was not a JSON object of at most 64 KiB."""

    status: int
    body: dict[str, Any]


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
    """Speaks the node protocol."""

    def __init__(self) -> None:
        self._http = httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=100, keepalive_expiry=30),
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
        headers = dict(headers or {})
        if node.secret:
            headers["Authorization"] = f"Bearer {node.secret}"
        try:
            async with self._http.stream(method, node.base + path, json=body, headers=headers) as response:
                return Answer(response.status_code, _object(await _bounded(response)))
        except (httpx.HTTPError, ValueError) as error:
            raise NodeUnreachable(type(error).__name__) from error


async def _bounded(response: httpx.Response) -> bytes:
    chunks = bytearray()
    async for chunk in response.aiter_bytes():
        chunks += chunk
        if len(chunks) > MAX_ANSWER:
            return b""
    return bytes(chunks)


def _object(content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
