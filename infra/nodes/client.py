"""Calls to nodes (NODE_PROTOCOL, "Orchestrator → node")."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from infra.nodes.address import NodeAddress
from infra.nodes.address_policy import AllowList
from infra.nodes.answer import NodeAnswer
from infra.nodes.http import NodeHttp, NodeUnreachable
from workflows.domain.errors import ForbiddenAddress

READINESS = frozenset({"READY", "BUSY", "STARTING", "SETUP_FAILED", "DEFUNCT"})
READINESS_S = 0.5  # it is asked while a dispatch waits


class NodeClient:
    """Speaks the node protocol. Every call raises ForbiddenAddress if the node may not be there, or no longer."""

    def __init__(self, allowed: AllowList) -> None:
        self._http = NodeHttp(allowed)

    async def put(self, node: NodeAddress, run_id: str, body: dict[str, Any], headers: dict[str, str]) -> NodeAnswer:
        """`PUT /predictions/{id}`: run this attempt. Raises NodeUnreachable."""
        return await self._http.call("PUT", node, f"/predictions/{quote(run_id, safe='')}", body, headers)

    async def status(self, node: NodeAddress, run_id: str) -> NodeAnswer:
        """`GET /predictions/{id}`: ask for its status. Raises NodeUnreachable."""
        return await self._http.call("GET", node, f"/predictions/{quote(run_id, safe='')}")

    async def cancel(self, node: NodeAddress, run_id: str) -> NodeAnswer:
        """`POST /predictions/{id}/cancel`: stop it. Raises NodeUnreachable."""
        return await self._http.call("POST", node, f"/predictions/{quote(run_id, safe='')}/cancel")

    async def readiness(self, node: NodeAddress) -> tuple[str, str | None] | None:
        """`GET /health-check`: the node's state and the reason that it gives; None without a valid answer soon."""
        try:
            async with asyncio.timeout(READINESS_S):
                answer = await self._http.call("GET", node, "/health-check")
        except (TimeoutError, NodeUnreachable, ForbiddenAddress):
            return None
        state = answer.body.get("status")
        return (state, answer.reason) if state in READINESS else None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()
