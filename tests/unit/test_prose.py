"""Turns of phrase that we don't write in documents, docstrings and comments."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

from tests.unit.sources import COMMENT, pieces

ROOT = Path(__file__).parents[2]
FOLDERS = ("workflows", "activities", "api", "infra", "workers", "tests")

PHRASES = {
    r"\bso (?:many|long|much|few|often|soon|late|old)\b(?! as| that)": "say how many, how long; `limit`, `age_s`",
    r"(?:^|[.;:] )Who (?!may call|calls|holds|settles|did|runs|acts\b)": "name the subject: a caller that",
    r"\b(?:of|for|by|from|but|than) who\b(?! may| calls| settles| did)": "name the subject: a caller that",
    r"\bwhom\b": "name the object",
    r"\bstands? (?:in|here|there|idle|below|above|free|open|on)\b": "is",
    r"\b(?:is|are|was) told\b": "is described, is sent, learns",
    r"\bseldom\b": "rarely",
    r"\bheed": "respected, answered",
    r"(?:^|[.;] )None: ": "say what None means in a sentence: `or None if …`",
    r"\bfor ever\b": "forever",
    r"\bthe same of\b": "name it again",
    r"\bwakes? nobody\b|\bnobody but who\b": "name the subject",
}
"""Pattern → what to write instead."""


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Bare strings of modules, classes and functions: docstrings, and the texts below constants and fields."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        for one in getattr(node, "body", ()) if isinstance(getattr(node, "body", ()), list) else ():
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) and isinstance(one.value.value, str):
                yield one.lineno, one.value.value


def paragraphs(path: Path) -> Iterator[tuple[int, str]]:
    """A page's lines, without its code."""
    code = False
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        code ^= line.startswith("```")
        if not code:
            yield number, re.sub(r"`[^`]*`", "`", line)


def read(path: Path) -> Iterator[tuple[int, str]]:
    return (
        paragraphs(path) if path.suffix == ".md" else chain(docstrings(path), pieces(path.read_text("utf-8"), COMMENT))
    )


PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PROGRAMS = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


@cache
def texts() -> list[tuple[str, str]]:
    """Everything that is read, each text with its place."""
    return [
        (f"{path.relative_to(ROOT)}:{line}", " ".join(text.split()))
        for path in [*PAGES, *PROGRAMS]
        for line, text in read(path)
    ]


@pytest.mark.parametrize("pattern", PHRASES)
def test_nobody_writes(pattern: str) -> None:
    phrase = re.compile(pattern, re.IGNORECASE if pattern.islower() else 0)
    found = [f"{place}: {match[0]!r}" for place, text in texts() if (match := phrase.search(text))]
    assert not found, f"write instead: {PHRASES[pattern]}"
