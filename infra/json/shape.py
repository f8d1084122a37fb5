"""The structure of a JSON text, counted from its bytes before it is parsed: number of values and depth.

Each step handles a piece of the text with a few calls in C. So a thread keeps the interpreter for about a millisecond
at a time, and no objects are made for the values. A parser decides whether the text is JSON; if it is not, the numbers
mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

PIECE = 32 * 1024
"""Bytes that one call in C handles."""

_BLANKS = b" \t\r\n"
_SIGNS = b"[]{},:"
_SIGNS_OR_X = bytes(byte if byte in _SIGNS else ord("x") for byte in range(256))
_STEPS = bytes({ord("["): 1, ord("{"): 1, ord("]"): 255, ord("}"): 255}.get(byte, 0) for byte in range(256))
"""The change of level that a bracket makes, as signed bytes."""


class Excess(ValueError):
    """A text has more values, or deeper ones, than are allowed."""


class TooManyValues(Excess):
    """More values than are allowed."""


class TooDeep(Excess):
    """More levels of nesting than are allowed."""


def check(text: bytes, *, max_depth: int, max_values: int | None = None) -> None:
    """Raise TooDeep or TooManyValues. Keys do not count as values; a text that is one scalar has depth 0."""
    values, level, last = 1, 0, b""
    for piece in _structure(text):
        opened = piece.count(b"[") + piece.count(b"{")
        values += piece.count(b",") + opened - _empty(last + piece)
        if max_values is not None and values > max_values + 1:  # one: the next piece may show its last "[" to be empty
            raise TooManyValues
        if level + opened > max_depth and _deepest(piece, level) > max_depth:
            raise TooDeep
        level += opened - piece.count(b"]") - piece.count(b"}")
        last = piece[-1:] or last
    if max_values is not None and values > max_values:
        raise TooManyValues


class TooLong(Excess):
    """A string that is longer than is allowed."""


def check_strings(text: bytes, most: int) -> None:
    """Raise TooLong if a string, as it is written, has more than `most` bytes (a piece more or less)."""
    length = 0
    for parts, inside in _parts(text):
        if len(parts) > 1:
            length, inside = 0, inside ^ (len(parts) - 1) % 2
        length += inside * len(parts[-1])
        if length > most:
            raise TooLong


def compact(text: bytes) -> bytes:
    """The text without white space between its parts, for comparison only: its escapes are not JSON's."""
    return b"".join(_compacted(parts, inside) for parts, inside in _parts(text))


def outside_strings(text: bytes) -> Iterator[bytes]:
    """The text in pieces, each string (or part of one that spans two pieces) as one `"`."""
    for parts, inside in _parts(text):
        parts[1 - inside :: 2] = [b'"'] * len(parts[1 - inside :: 2])
        yield b"".join(parts)


def _parts(text: bytes) -> Iterator[tuple[list[bytes], int]]:
    """The text in pieces, each cut at its quotes, and whether its first part lies inside a string (0, 1).

    An escaped quote or backslash is replaced by two bytes that UTF-8 does not have.
    """
    inside, start = 0, 0
    while start < len(text):
        piece = text[start : start + PIECE]
        if start + len(piece) < len(text):
            piece = piece[: len(piece) - (len(piece) - len(piece.rstrip(b"\\"))) % 2]  # no escape is cut in two
        start += len(piece)
        parts = piece.replace(b"\\\\", b"\xff\xfe").replace(b'\\"', b"\xff\xfd").split(b'"')
        yield parts, inside
        inside ^= (len(parts) - 1) % 2


def _compacted(parts: list[bytes], inside: int) -> bytes:
    parts[inside::2] = [part.translate(None, _BLANKS) for part in parts[inside::2]]
    return b'"'.join(parts)


def _structure(text: bytes) -> Iterator[bytes]:
    """Brackets, commas and colons; everything else except white space as `x`."""
    return (piece.translate(_SIGNS_OR_X, _BLANKS) for piece in outside_strings(text))


def _empty(piece: bytes) -> int:
    return piece.count(b"[]") + piece.count(b"{}")


def _deepest(piece: bytes, level: int) -> int:
    steps = memoryview(piece.translate(_STEPS, b"x,:")).cast("b")
    return max(accumulate(steps, initial=level))
