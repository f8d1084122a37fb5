"""The rule for results of tasks, shared by the agent that makes one and the orchestrator that takes it."""

from __future__ import annotations

import msgspec

from infra.json import strict_json
from infra.json.strict_json import Unfit

MAX_REPORT = 1024 * 1024
"""Bytes of the body that carries a result, `{"result":"<JSON text>"}`: what the API takes at most."""

_ENVELOPE = len(b'{"result":}')


def result(text: str | bytes) -> str:
    """The result that a JSON text is, written as it was, without white space between its parts. Raises Unfit."""
    text = text if isinstance(text, str) else _decoded(text)
    strict_json.check_text(text)
    text = strict_json.compact(text)
    if len(msgspec.json.encode(text)) + _ENVELOPE > MAX_REPORT:
        raise too_large()
    return text


def too_large() -> Unfit:
    """The refusal of a result that no report can carry."""
    return Unfit(f"is larger than {MAX_REPORT // 1024} KiB as a report", f"超过 {MAX_REPORT // 1024} KiB")


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise Unfit("is not UTF-8", "不是UTF-8文本") from None
