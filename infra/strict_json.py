"""JSON that can be written out again: what Python's parser lets through and others refuse is refused here too.

A body is parsed to objects, once `infra.json_shape` has bounded it. A JSON text that came in a string (`payload`,
`result`) is as large as its bytes allow: `check_text` looks at it without making objects of it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from infra import json_shape

MAX_DEPTH = 100
"""Levels of nesting: far below the interpreter's own limit."""
MAX_DIGITS = 4300
"""Of an integer: Python reads no longer one."""
MAX_COMPARED = 20_000
"""Values of a text that is compared as what it means, not as how it is written."""
INT64 = range(-(2**63), 2**63)
_INT64_DIGITS = 20  # with the sign
UNSTORABLE = re.compile("[\\x00\\ud800-\\udfff]")
"""NUL and lone surrogates: Postgres takes no NUL, UTF-8 no surrogate."""
UNPRINTABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")
"""Control characters (C0, DEL, C1) and lone surrogates: what no name and no reason holds."""

_RAW = msgspec.json.Decoder(msgspec.Raw)
_AS_ZEROS = bytes.maketrans(b"123456789E", b"000000000e")
_NUMBERS = bytes(byte if byte in b"0123456789+-.eE" else ord(" ") for byte in range(256))
_LARGE_EXPONENT = b"0e000"
_MANY_DIGITS = b"0" * 200
"""A number with neither of the two (in `_AS_ZEROS`) lies below 10^(200 + 99)."""


def encodable(part: Any) -> bool:
    """Whether a value (or key) alone can be written out and stored: no NaN, no infinity, no NUL, no surrogate."""
    if isinstance(part, str):
        return UNSTORABLE.search(part) is None
    return not isinstance(part, float) or math.isfinite(part)


def storable(part: Any) -> bool:
    """As `encodable`, and an integer has at most 64 bits."""
    return part in INT64 if isinstance(part, int) else encodable(part)


def printable(part: Any) -> bool:
    """Whether a value (or key) alone is no text, or one without control characters."""
    return not isinstance(part, str) or UNPRINTABLE.search(part) is None


def check(value: Any, fits: Callable[[Any], bool]) -> None:
    """Raise ValueError unless every value and key within `value` fits; without recursion."""
    level = [value]
    while level:
        if not all(map(fits, level)):
            raise ValueError("not plain JSON")
        level = list(_within(level))


def check_text(text: str) -> None:
    """Raise ValueError unless `text` is JSON that every reader takes: see `encodable`, MAX_DEPTH, MAX_DIGITS.

    In C, and without objects: 1 MiB takes some milliseconds, and at most 1 ms at a time.
    """
    content = text.encode()  # a lone surrogate fails here: UnicodeEncodeError is a ValueError
    try:
        _RAW.decode(content)
    except RecursionError:
        raise json_shape.TooDeep from None
    except msgspec.MsgspecError:
        raise ValueError("not JSON") from None
    if content.count(b"[") + content.count(b"{") > MAX_DEPTH:
        json_shape.check(content, max_depth=MAX_DEPTH)
    if b"\\u0000" in content and b"\\u0000" in content.replace(b"\\\\", b""):
        raise ValueError("NUL")
    if not all(map(_readable, _unusual_numbers(content))):
        raise ValueError("a number is out of range")


def same_text(one: str, other: str) -> bool:
    """Whether two JSON texts mean the same; of large ones, whether they differ in white space alone."""
    if one == other:
        return True
    try:
        for text in (one, other):
            json_shape.check(text.encode(), max_depth=MAX_DEPTH, max_values=MAX_COMPARED)
    except json_shape.TooManyValues:
        return json_shape.compact(one.encode()) == json_shape.compact(other.encode())
    return bool(loads(one, as_integer=_integer_or_digits) == loads(other, as_integer=_integer_or_digits))


class RepeatedName(ValueError):
    """an object has the same name twice"""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of its pairs, for `loads`. Raises RepeatedName."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RepeatedName
    return found


def loads(
    text: str | bytes,
    as_object: Callable[[list[tuple[str, Any]]], Any] | None = None,
    as_integer: Callable[[str], Any] | None = None,
) -> Any:
    """As `json.loads`, with ValueError for every text it can't take; NaN and its like are left to `check`.

    `as_object` makes an object of its pairs, `as_integer` an integer of its digits.
    """
    try:
        return json.loads(text, object_pairs_hook=as_object, parse_int=as_integer)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def int64_or_beyond(digits: str) -> int:
    """An integer, or one that `storable` refuses: making thousands of digits a number takes long."""
    return int(digits) if len(digits) <= _INT64_DIGITS else INT64.stop


def _integer_or_digits(digits: str) -> object:
    return int(digits) if len(digits) <= _INT64_DIGITS else (digits,)


def _within(level: list[Any]) -> Iterator[Any]:
    for part in level:
        if isinstance(part, dict):
            yield from part
            yield from part.values()
        elif isinstance(part, list):
            yield from part


def _unusual_numbers(content: bytes) -> Iterator[bytes]:
    """The numbers of a JSON text that might be out of range, with others beside them."""
    zeros = content.translate(_AS_ZEROS, b"+")
    if _LARGE_EXPONENT not in zeros and _MANY_DIGITS not in zeros:
        return
    rest = b""
    for piece in json_shape.outside_strings(content):
        *numbers, rest = (rest + piece.translate(_NUMBERS)).split(b" ")
        yield from (number for number in numbers if len(number) >= len(_LARGE_EXPONENT))
    yield rest


def _readable(number: bytes) -> bool:
    """Whether Python reads a number, and as a finite one; `rest` and the letters of `true` may be none."""
    if number.lstrip(b"-").isdigit():
        return len(number.lstrip(b"-")) <= MAX_DIGITS
    try:
        return math.isfinite(float(number))
    except ValueError:
        return True
