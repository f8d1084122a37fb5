"""The structure of a JSON text, counted from its bytes before anything is parsed: how many values, how deep.

Each step works on a piece of the text with a few calls in C, so that a thread that does it keeps the interpreter for
about a millisecond at a time, and no objects are made for the values. Whether the text is JSON is for a parser to say:
of one that is not, the numbers mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

PIECE = 32 * 1024
"""Bytes that are looked at by one call in C."""

_BLANKS = b" \t\r\n"
_SIGNS = b"[]{},:"
_SIGNS_OR_X = bytes(byte if byte in _SIGNS else ord("x") for byte in range(256))
_STEPS = bytes({ord("["): 1, ord("{"): 1, ord("]"): 255, ord("}"): 255}.get(byte, 0) for byte in range(256))
"""How a bracket changes the level, as signed bytes."""


class Excess(ValueError):
    """A text has more values, or deeper ones, than are admitted."""


class TooManyValues(Excess):
    """More values than are admitted."""


class TooDeep(Excess):
    """More levels of nesting than are admitted."""


def check(text: bytes, *, max_depth: int, max_values: int | None = None) -> None:
    """Raise TooDeep or TooManyValues. Keys are no values; a text that is one scalar has depth 0."""
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


def compact(text: bytes) -> bytes:
    """The text without the white space between its parts, for a comparison: its escapes are not JSON's."""
    return b"".join(_compacted(parts, inside) for parts, inside in _parts(text))


def outside_strings(text: bytes) -> Iterator[bytes]:
    """The text in pieces, each string (and each part of one that lies in two pieces) as one `"`."""
    for parts, inside in _parts(text):
        parts[1 - inside :: 2] = [b'"'] * len(parts[1 - inside :: 2])
        yield b"".join(parts)


def _parts(text: bytes) -> Iterator[tuple[list[bytes], int]]:
    """The text in pieces, each cut at its quotes, and whether the first part of a piece lies inside a string (0, 1).

    An escaped quote or backslash is two bytes here that UTF-8 does not have.
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
    """Brackets, commas and colons; everything else but white space as `x`."""
    return (piece.translate(_SIGNS_OR_X, _BLANKS) for piece in outside_strings(text))


def _empty(piece: bytes) -> int:
    return piece.count(b"[]") + piece.count(b"{}")


def _deepest(piece: bytes, level: int) -> int:
    steps = memoryview(piece.translate(_STEPS, b"x,:")).cast("b")
    return max(accumulate(steps, initial=level))
