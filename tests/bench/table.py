"""The bench's output: a table for people, then one JSON object for programs."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

from tests.bench.figures import Figure

HEAD = ("figure", "value", "reference", "ratio", "target", "met?")
WORDS = {True: "yes", False: "NO", None: ""}


def table(figures: Sequence[Figure]) -> str:
    """One line per figure, with its note below."""
    rows = [_cells(figure) for figure in figures]
    widths = [max(_width(row[column]) for row in (HEAD, *rows)) for column in range(len(HEAD))]
    lines = [_line(HEAD, widths), "  ".join("-" * width for width in widths)]
    for figure, row in zip(figures, rows, strict=True):
        lines.append(_line(row, widths))
        if figure.note:
            lines.append(f"    {figure.note}")
    return "\n".join(lines)


def json_line(figures: Sequence[Figure], **context: Any) -> str:
    """All figures on one line; their names are the keys, in order."""
    named = {figure.name: figure.as_json() for figure in figures}
    if len(named) != len(figures):
        raise ValueError("two figures have the same name")
    return json.dumps({**context, "figures": named}, ensure_ascii=False, allow_nan=False)


def number(value: float) -> str:
    """Three significant digits, and no exponent."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.6f}"


def _cells(figure: Figure) -> tuple[str, ...]:
    reference = "" if figure.reference is None else f"{number(figure.reference)} {figure.unit}, {figure.against}"
    return (
        figure.name,
        "–" if figure.value is None else f"{number(figure.value)} {figure.unit}".rstrip(),
        reference,
        "" if figure.ratio is None else f"{figure.ratio:.2f}×",
        str(figure.target) if figure.target else "",
        WORDS[figure.met],
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def _width(text: str) -> int:
    """Columns on a terminal."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)
