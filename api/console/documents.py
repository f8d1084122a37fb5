"""Payloads and results as people read them: JSON in lines, long texts shortened, pictures shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from infra.json import shape, strict_json

MOST_SHOWN = 20_000
"""Characters of a document that are shown."""
LONG = 400
"""Characters of a text within it that are shown."""
MOST_PICTURES = 6
MOST_VALUES = 50_000
"""Values of a document that is read as JSON, since reading holds the interpreter. A larger one is shown as it is."""
_DATA_URL = re.compile(r"data:image/(png|jpeg|webp|gif);base64,([A-Za-z0-9+/=\s]+)")
_STARTS = {"iVBORw0KGgo": "png", "/9j/": "jpeg", "R0lGOD": "gif", "UklGR": "webp"}
"""The starts of pictures in base64."""
_IN_LINES = json.JSONEncoder(ensure_ascii=False, indent=2)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{64,}+={0,2}\s*")
"""Possessive: a search that gave blanks back would take minutes for a text of them."""


@dataclass(frozen=True)
class Picture:
    """A picture: its media type, and its bytes as base64."""

    media_type: str
    base64: str


@dataclass(frozen=True)
class Document:
    """`text`: what is shown of it; `is_cut`: there is more; `size`: of the whole, in bytes."""

    text: str
    is_cut: bool
    size: int
    pictures: tuple[Picture, ...] = ()
    is_json: bool = True


@lru_cache(16)
def read(text: str) -> Document:
    """A payload or result. What is no JSON, or has too many values, is shown as it is. A page that is open asks for the
    same again and again."""
    size = len(text.encode())
    try:
        shape.check(text.encode(), max_depth=strict_json.MAX_DEPTH, max_values=MOST_VALUES)
        value = json.loads(text)
    except (ValueError, RecursionError):
        return Document(text[:MOST_SHOWN], len(text) > MOST_SHOWN, size, is_json=False)
    pictures = tuple(islice(_pictures(value), MOST_PICTURES))
    shown = "".join(_first(_IN_LINES.iterencode(_shortened(value, iter(range(MOST_SHOWN))))))
    shown = shown.encode(errors="replace").decode()  # JSON can escape half a surrogate pair
    return Document(shown[:MOST_SHOWN], len(shown) > MOST_SHOWN, size, pictures)


def _first(pieces: Iterable[str]) -> Iterator[str]:
    """Pieces until there are more characters than are shown."""
    count = 0
    for piece in pieces:
        yield piece
        count += len(piece)
        if count > MOST_SHOWN:
            return


def _pictures(value: Any) -> Iterator[Picture]:
    """The pictures within a value."""
    if isinstance(value, str):
        if (found := _picture(value)) is not None:
            yield found
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _pictures(one)


def _picture(text: str) -> Picture | None:
    if (found := _DATA_URL.fullmatch(text)) is not None:
        return Picture(f"image/{found[1]}", found[2])
    kind = next((kind for start, kind in _STARTS.items() if text.startswith(start)), None)
    is_picture = kind is not None and _BASE64.fullmatch(text) is not None
    return Picture(f"image/{kind}", text) if is_picture else None


def _shortened(value: Any, room: Iterator[int]) -> Any:
    """The value with long texts cut, and at most as many values as `room` yields; later ones would not be shown."""
    if isinstance(value, dict):
        return {_cut(key): _shortened(one, room) for _, (key, one) in zip(room, value.items(), strict=False)}
    if isinstance(value, list):
        return [_shortened(one, room) for _, one in zip(room, value, strict=False)]
    return _cut(value) if isinstance(value, str) else value


def _cut(text: str) -> str:
    return text if len(text) <= LONG else f"{text[: LONG // 4]}… ({len(text):,})"
