"""Answers that are lists: at most MAX_ANSWER bytes, encoded once and in C (INVARIANTS, 16)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from starlette.responses import Response

from api.envelope import JSON

MAX_ANSWER = 4 * 1024 * 1024
FITTING = (
    "响应不超过 4 MiB：超出时，最大的 `payload` 与 `result` 为 null，"
    "字段名列在该项的 `omitted` 中，完整内容见任务详情。"
)
_BEGIN, _END = b'{"code":200,"message":"success","data":[', b"]}"
_NULL = b"null"
_NAMES = 128
"""Bytes of an item that are no values: the names of its large fields, `omitted`, commas."""


class Item(NamedTuple):
    """One entry of a list."""

    fields: dict[str, Any]
    large: dict[str, bytes | None]  # JSON; None: too large to be brought along


def answer(items: Sequence[Item], headers: dict[str, str]) -> Response:
    """The list as a success, with the largest of the large fields left out until it is small enough."""
    return Response(encode(items), media_type=JSON, headers=headers)


def encode(items: Sequence[Item], most: int = MAX_ANSWER) -> bytes:
    """The envelope with the list; a large field that is left out is null, and named in the item's `omitted`."""
    heads = [msgspec.json.encode(item.fields)[:-1] for item in items]
    room = most - len(_BEGIN) - len(_END) - sum(len(head) + _NAMES for head in heads)
    kept = _fitting(items, room)
    return _BEGIN + b",".join(_item(head, values) for head, values in zip(heads, kept, strict=True)) + _END


def _fitting(items: Sequence[Item], room: int) -> list[dict[str, bytes | None]]:
    """The large fields, the smallest first, as far as there is room for them."""
    kept: list[dict[str, bytes | None]] = [dict.fromkeys(item.large) for item in items]
    sizes = [(len(value), at, name) for at, item in enumerate(items) for name, value in item.large.items() if value]
    for size, at, name in sorted(sizes):
        room -= size
        if room >= 0:
            kept[at][name] = items[at].large[name]
    return kept


def _item(head: bytes, values: dict[str, bytes | None]) -> bytes:
    members = [b'"%s":%s' % (name.encode(), _NULL if value is None else value) for name, value in values.items()]
    omitted = [name for name, value in values.items() if value is None]
    if omitted:
        members.append(b'"omitted":' + msgspec.json.encode(omitted))
    return b",".join([head, *members]) + b"}"
