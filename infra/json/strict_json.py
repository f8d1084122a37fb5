"""JSON that every reader accepts: what Python's parser lets through and others refuse is refused here too.

A body is parsed to objects, after `infra.json.shape` has bounded it. JSON text inside a string (`payload`, `result`) is
limited only by its bytes: `check_text` checks it without making objects.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from infra.json import shape

MAX_DEPTH = 100
"""Levels of nesting: far below the interpreter's own limit."""
MAX_DIGITS = 4300
"""Digits of an integer: Python reads no more."""
MAX_COMPARED = 20_000
"""Values up to which texts are compared by meaning. Larger ones are compared as written."""
INT64 = range(-(2**63), 2**63)
_INT64_DIGITS = 20  # with the sign
UNSTORABLE = re.compile("[\\x00\\ud800-\\udfff]")
"""NUL and lone surrogates: Postgres stores no NUL, UTF-8 no surrogate."""
UNPRINTABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")
"""Control characters (C0, DEL, C1) and lone surrogates, which no name and no reason may hold."""

_RAW = msgspec.json.Decoder(msgspec.Raw)
_COMPACT = -1
_HALF_A_PAIR = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
_AS_ZEROS = bytes.maketrans(b"123456789E", b"000000000e")
_NUMBERS = bytes(byte if byte in b"0123456789+-.eE" else ord(" ") for byte in range(256))
_LARGE_EXPONENT = b"0e000"
_MANY_DIGITS = b"0" * 200
"""A number with neither of the two (in `_AS_ZEROS`) lies below 10^(200 + 99)."""


def encodable(part: Any) -> bool:
    """Whether a single value (or key) can be written out and stored: no NaN, infinity, NUL or surrogate."""
    if isinstance(part, str):
        return "\0" not in part and (part.isascii() or UNSTORABLE.search(part) is None)
    return not isinstance(part, float) or math.isfinite(part)


def storable(part: Any) -> bool:
    """Like `encodable`, and an integer has at most 64 bits."""
    return part in INT64 if isinstance(part, int) else encodable(part)


def printable(part: Any) -> bool:
    """Whether a single value (or key) is a text without control characters, or no text."""
    return not isinstance(part, str) or UNPRINTABLE.search(part) is None


def check(value: Any, fits: Callable[[Any], bool]) -> None:
    """Raise ValueError unless every value and key within `value` fits; without recursion."""
    level = [value]
    while level:
        if not all(map(fits, level)):
            raise ValueError("not plain JSON")
        level = list(_within(level))


class Unfit(ValueError):
    """Not every reader accepts this JSON text: a predicate that says why, in English and in the API's Chinese."""

    def __init__(self, english: str, chinese: str) -> None:
        super().__init__(english)
        self.chinese = chinese


class HalfAPair(Unfit):
    """A JSON text has one half of a surrogate pair without the other."""

    def __init__(self) -> None:
        super().__init__("holds half of a surrogate pair", "含有不成对的代理字符")


class TooDeep(Unfit):
    """A JSON text has more than MAX_DEPTH levels."""

    def __init__(self) -> None:
        super().__init__(f"is nested more than {MAX_DEPTH} levels deep", f"嵌套超过 {MAX_DEPTH} 层")


def check_text(text: str) -> None:
    """Raise Unfit unless `text` is JSON that every reader accepts: see `encodable`, MAX_DEPTH, MAX_DIGITS.

    A name that an object has twice is left to the reader. In C, without objects: 1 MiB takes some milliseconds, at most
    1 ms at a time.
    """
    try:
        content = text.encode()
    except UnicodeEncodeError:
        raise HalfAPair from None
    _check_grammar(content)
    if content.count(b"[") + content.count(b"{") > MAX_DEPTH:
        _check_depth(content)
    if b"\\u0000" in content and b"\\u0000" in content.replace(b"\\\\", b""):
        raise Unfit("holds the character NUL", "含有NUL字符")
    if not all(map(_readable, _unusual_numbers(content))):
        raise Unfit("holds a number that is out of range", "含有超出范围的数字")


def compact(text: str) -> str:
    """A JSON text as it is written, but without white space between its parts. In C, and without objects."""
    return msgspec.json.format(text, indent=_COMPACT)


def _check_grammar(content: bytes) -> None:
    try:
        _RAW.decode(content)
    except RecursionError:
        raise TooDeep from None
    except msgspec.MsgspecError as error:
        if _HALF_A_PAIR.search(content.replace(b"\\\\", b"")):  # of which it says that the text is cut off
            raise HalfAPair from None
        raise Unfit(f"is not JSON: {error}", "不是合法的JSON文本") from None


def _check_depth(content: bytes) -> None:
    try:
        shape.check(content, max_depth=MAX_DEPTH)
    except shape.TooDeep:
        raise TooDeep from None


def same_text(one: str, other: str) -> bool:
    """Whether two JSON texts mean the same; for large ones, whether they differ in white space only."""
    if one == other:
        return True
    try:
        for text in (one, other):
            shape.check(text.encode(), max_depth=MAX_DEPTH, max_values=MAX_COMPARED)
    except shape.TooManyValues:
        return shape.compact(one.encode()) == shape.compact(other.encode())
    return bool(loads(one, as_integer=_integer_or_digits) == loads(other, as_integer=_integer_or_digits))


class RepeatedName(ValueError):
    """an object has the same name twice"""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object from its pairs, for `loads`. Raises RepeatedName."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RepeatedName
    return found


def loads(
    text: str | bytes,
    as_object: Callable[[list[tuple[str, Any]]], Any] | None = None,
    as_integer: Callable[[str], Any] | None = None,
) -> Any:
    """Like `json.loads`, but raises ValueError for every text that it cannot read; `check` refuses NaN and the like.

    `as_object` makes an object from its pairs, `as_integer` an integer from its digits.
    """
    try:
        return json.loads(text, object_pairs_hook=as_object, parse_int=as_integer)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def int64_or_beyond(digits: str) -> int:
    """An integer, or a value that `storable` refuses if it has thousands of digits, which take long to convert."""
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
    """The numbers of a JSON text that might be out of range, and some others."""
    zeros = content.translate(_AS_ZEROS, b"+")
    if _LARGE_EXPONENT not in zeros and _MANY_DIGITS not in zeros:
        return
    rest = b""
    for piece in shape.outside_strings(content):
        *numbers, rest = (rest + piece.translate(_NUMBERS)).split(b" ")
        yield from (number for number in numbers if len(number) >= len(_LARGE_EXPONENT))
    yield rest


def _readable(number: bytes) -> bool:
    """Whether Python reads this as a finite number. Text that is no number (`rest`, letters of `true`) passes."""
    if number.lstrip(b"-").isdigit():
        return len(number.lstrip(b"-")) <= MAX_DIGITS
    try:
        return math.isfinite(float(number))
    except ValueError:
        return True
