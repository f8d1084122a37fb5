"""Answers that are lists: at most MAX_ANSWER bytes, encoded once and in C (INVARIANTS, 16)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from starlette.responses import Response

from api.http.envelope import JSON
from infra.json.off_loop import off_loop

MAX_ANSWER = 4 * 1024 * 1024
FITTING = (
    "响应不超过 4 MiB：超出时，最大的 `payload` 与 `result` 为 null，"
    "字段名列在该项的 `omitted` 中，完整内容见任务详情。"
)
_BEGIN, _END = b'{"code":200,"message":"success","data":[', b"]}"
_NULL = b"null"
LONG = 256 * 1024
"""Characters of text beyond which encoding would hold the event loop for more than a millisecond or two."""
_NAMES = 128
"""Bytes of an item in addition to its values: the names of its large fields, `omitted`, commas."""


class Item(NamedTuple):
    """One entry of a list."""

    head: bytes  # a JSON object: the other fields
    large: dict[str, str | bytes | None]  # a text, or JSON as it is; None if it is too large


async def answer(items: Sequence[Item], headers: dict[str, str]) -> Response:
    """The list as a success. Its largest fields are left out until it is small enough."""
    return Response(await encoded(items), media_type=JSON, headers=headers)


async def encoded(items: Sequence[Item]) -> bytes:
    """`encode`, off the event loop if there are long texts."""
    texts = sum(len(value) for item in items for value in item.large.values() if isinstance(value, str))
    return await off_loop.run(texts if texts > LONG else 0, lambda: encode(items))


def encode(items: Sequence[Item], most: int = MAX_ANSWER) -> bytes:
    """The envelope with the list. A large field that is left out is null, and named in the item's `omitted`."""
    heads = [item.head[:-1] for item in items]
    room = most - len(_BEGIN) - len(_END) - sum(len(head) + _NAMES for head in heads)
    kept = _fitting(items, room)
    return _BEGIN + b",".join(_item(head, values) for head, values in zip(heads, kept, strict=True)) + _END


def _fitting(items: Sequence[Item], room: int) -> list[dict[str, bytes | None]]:
    """The large fields as JSON, smallest first, as long as there is room. The others are not encoded."""
    kept: list[dict[str, bytes | None]] = [dict.fromkeys(item.large) for item in items]
    values = [
        (at, name, value) for at, item in enumerate(items) for name, value in item.large.items() if value is not None
    ]
    for at, name, value in sorted(values, key=lambda one: len(one[2])):
        json = value if isinstance(value, bytes) else msgspec.json.encode(value)
        room -= len(json)
        if room < 0:
            break
        kept[at][name] = json
    return kept


def _item(head: bytes, values: dict[str, bytes | None]) -> bytes:
    members = [b'"%s":%s' % (name.encode(), _NULL if value is None else value) for name, value in values.items()]
    omitted = [name for name, value in values.items() if value is None]
    if omitted:
        members.append(b'"omitted":' + msgspec.json.encode(omitted))
    return b",".join([head, *members]) + b"}"
