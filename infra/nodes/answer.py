"""A node's answer, read leniently: untrusted input, bounded in size."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from infra.json import strict_json
from workflows.domain.attempt import CONFIRMED

MAX_ANSWER = 64 * 1024  # bytes
MAX_ERROR = 500  # characters


class _WithOutput(msgspec.Struct):
    output: msgspec.Raw


_WITH_OUTPUT = msgspec.json.Decoder(_WithOutput)


@dataclass(frozen=True)
class NodeAnswer:
    """A node's answer. `body` is empty unless it was a JSON object of at most 64 KiB whose `status` is a text."""

    status: int
    body: dict[str, Any]
    output: str | None = None  # JSON text as the node wrote it, if there is one

    @property
    def confirms(self) -> bool:
        """Whether the node holds the attempt, or has done it."""
        return self.status == 200 and self.body.get("status") in CONFIRMED

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


async def read(response: aiohttp.ClientResponse) -> NodeAnswer:
    """Read an answer. Raises aiohttp's errors."""
    content = await _bounded(response)
    body = _object(content)
    return NodeAnswer(response.status, body, _output(content, body) if "output" in body else None)


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
    """Parse leniently: a failure must not be lost to a NUL in its `error`. Code that stores a part checks that part."""
    try:
        parsed = strict_json.loads(content)
    except ValueError:
        return {}
    body = parsed if isinstance(parsed, dict) else {}
    return body if isinstance(body.get("status", ""), str) else {}


def _output(content: bytes, body: dict[str, Any]) -> str:
    """The `output` as the node wrote it. JSON that only Python accepts is re-encoded, and refused later."""
    try:
        return bytes(_WITH_OUTPUT.decode(content).output).decode()
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return json.dumps(body["output"], ensure_ascii=False)
