"""The last JSON document among the lines of a program's standard output.

A document is an object or an array that begins at the start of a line and ends at the end of one, over as many lines as
it likes; white space around it doesn't count. A line that is one scalar counts only where there is no document.

A document inside another one does not count. Nor does one inside text that only looks like a document (an object in
another notation, or behind a word): the lines below it that are indented more than its first line belong to it. If the
output ends inside a document, no earlier document is taken instead.
"""

from __future__ import annotations

import re

import msgspec

from infra.json import results
from infra.json.strict_json import Unfit
from workers.node.errors import BadOutput

LIMIT = results.MAX_REPORT  # bytes of a document without its lines' indentation

_BLANKS = b" \t\r"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_RAW = msgspec.json.Decoder(msgspec.Raw)

_CUT_STRING = rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+'
_STRING = _CUT_STRING + rb'"'
_NUMBER = rb"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+(?![.0-9eE])"
_CONSTANT = rb"NaN|-?Infinity"  # as Python writes them: meant as a result, which fails then
_TOKEN = re.compile(  # the last alternative takes what is none
    rb"[ \t\r]*+(?:([][{}:,])|(%b)|(%b)|(%b|true|false|null)|(.++))" % (_STRING, _CONSTANT, _NUMBER), re.DOTALL
)
_KINDS = (b"", b"", b"string", b"constant", b"scalar", b"none")  # by the group
_CUT_STRING_ONLY = re.compile(_CUT_STRING + rb"(?:\\(?:u[0-9a-fA-F]{0,3})?)?")
_CUT_NUMBER = re.compile(rb"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?)?)?")
_WORDS = (b"true", b"false", b"null", b"NaN", b"Infinity", b"-Infinity")

_VALUE = (b"[", b"{", b"string", b"scalar", b"constant")
_KEY = (b"string",)
_FIRST = {b"[": (*_VALUE, b"]"), b"{": (*_KEY, b"}")}  # of all that begins with a bracket
_NEXT = {b"[": _VALUE, b"{": _KEY}
_AFTER = {b"[": (b",", b"]"), b"{": (b",", b"}")}
_NOTHING: tuple[bytes, ...] = ()


class Documents:
    """Hears a program's lines. Looks at each byte once or twice; keeps no more than a result's worth of them."""

    def __init__(self) -> None:
        self._last: bytes | BadOutput | None = None
        self._scalar: bytes | BadOutput | None = None
        self._open: _Document | None = None
        self._block: int | None = None  # indentation of a line to which those below it belong that are indented more
        self._is_first = True

    def line(self, line: bytes) -> None:
        """The next line, without its end; one that is cut is longer than LIMIT."""
        if self._is_first:
            line, self._is_first = line.removeprefix(_BYTE_ORDER_MARK), False
        text = line.strip(_BLANKS)
        if not text or (self._open is not None and self._continued(self._open, text)):
            return
        indent = len(line) - len(line.lstrip(_BLANKS))
        if self._block is None or indent <= self._block:
            self._block = None
            self._begin(text, indent)

    def last(self) -> bytes:
        """The last document, as it was written but without indentation. Raises BadOutput."""
        if self._open is not None:
            raise BadOutput("the standard output ends inside of a JSON document")
        found = self._last or self._scalar or BadOutput("the standard output holds no JSON document")
        if isinstance(found, BadOutput):
            raise found
        return found

    def _begin(self, text: bytes, indent: int) -> None:
        document = _Document(indent)
        if text[:1] in _FIRST and len(text) > LIMIT:
            self._last, self._block = _too_large(), indent
        elif text[:1] in _FIRST and _is_json(text):
            self._last = text
        elif text[:1] in _FIRST and document.take(text):
            self._note(document)
        elif text[-1:] in _FIRST:
            self._block = indent
        else:
            self._scalar = _scalar(text) or self._scalar

    def _continued(self, document: _Document, text: bytes) -> bool:
        """Whether the line belongs to the document; otherwise it has broken it, and may begin another one."""
        if document.take(text):
            self._note(document)
            return True
        self._open, self._block = None, document.indent
        return False

    def _note(self, document: _Document) -> None:
        self._open = None if document.is_complete else document
        if document.is_complete:
            self._last = document.content()


class _Document:
    """A document that is being read, checked against JSON's grammar plus Python's constants, such as NaN."""

    def __init__(self, indent: int) -> None:
        self.indent = indent
        self._text = bytearray()
        self._constant = b""
        self._brackets: list[bytes] = []
        self._expected: tuple[bytes, ...] = (b"[", b"{")

    @property
    def is_complete(self) -> bool:
        """Whether its end was the end of the last line."""
        return not self._brackets

    def take(self, text: bytes) -> bool:
        """The next line, stripped. False: it breaks the document."""
        for token in _TOKEN.finditer(text):
            kind = token[1] or _KINDS[token.lastindex or 0]
            if kind == b"none" and self._cut_by(token[5]):
                self._expected = _NOTHING  # goes on only if this is the end of all
            elif kind in self._expected:
                self._constant = token[3] or self._constant
                self._expected = self._after(kind)
            else:
                return False
        if len(self._text) <= LIMIT:
            self._text += text
        return True

    def content(self) -> bytes | BadOutput:
        """The text; BadOutput if it is too large, or has a constant that JSON does not have."""
        if len(self._text) > LIMIT:
            return _too_large()
        return _no_json(self._constant) if self._constant else bytes(self._text)

    def _after(self, kind: bytes) -> tuple[bytes, ...]:
        """The kinds that may follow."""
        if kind in _FIRST:
            self._brackets.append(kind)
            return _FIRST[kind]
        if kind == b",":
            return _NEXT[self._brackets[-1]]
        if kind == b":":
            return _VALUE
        if kind == b"string" and b"scalar" not in self._expected:
            return (b":",)
        if kind in (b"]", b"}"):
            self._brackets.pop()
        return _AFTER[self._brackets[-1]] if self._brackets else _NOTHING

    def _cut_by(self, rest: bytes) -> bool:
        """Whether the rest of a line is the beginning of a token that may follow."""
        if b"string" in self._expected and _CUT_STRING_ONLY.fullmatch(rest):
            return True
        is_scalar = _CUT_NUMBER.fullmatch(rest) or any(word.startswith(rest) for word in _WORDS)
        return b"scalar" in self._expected and bool(is_scalar)


def _is_json(text: bytes) -> bool:
    """Whether a line is JSON, checked in C: most documents are one line."""
    try:
        _RAW.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _scalar(text: bytes) -> bytes | BadOutput | None:
    token = _TOKEN.fullmatch(text)
    if token is None or token[1] or token[5]:
        return None
    return _no_json(token[3]) if token[3] else text


def _no_json(constant: bytes) -> BadOutput:
    return BadOutput(f"the result holds {constant.decode()}, which is not JSON")


def _too_large() -> BadOutput:
    error: Unfit = results.too_large()
    return BadOutput(f"the result {error}")
