"""JSON as RFC 8259 has it: what every reader takes, and so what may travel as input or result."""

from __future__ import annotations

import json
import math


def loads(text: str | bytes) -> object:
    """Parse; raises ValueError on NaN, Infinity, numbers beyond a float, broken UTF-8 and absurd nesting."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dumps(value: object) -> str:
    """Compact text that encodes to UTF-8; raises ValueError on what JSON cannot say (NaN, lone surrogates)."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    text.encode()  # a lone surrogate fails here, as UnicodeEncodeError
    return text


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is out of range")
    return number
