"""The contents of an answer."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter

from gpu_orchestrator_client.calls import call
from gpu_orchestrator_client.commands import Reply, Send, Steps, given
from gpu_orchestrator_client.errors import BadAnswer

M = TypeVar("M")


def parsed(reply: Reply, kind: type[M]) -> M:
    """The `data` of an answer. Raises BadAnswer."""
    try:
        return TypeAdapter(kind).validate_python(json.loads(reply.body)["data"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadAnswer(f"not an answer of the API: {error}") from error


def get(path: str, kind: type[M], **params: Any) -> Steps[M]:
    """Read something."""
    reply = yield from call(Send("GET", path, given(**params)))
    return parsed(reply, kind)
