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
FOLDERS = ("workflows", "activities", "api", "infra", "workers", "clients", "tests")

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
HEADLESS = re.compile(
    r"(?:What|Whose|Whoever|Those|Of|By|Until|And|As|At|Also|Else|For|From|Has|Nor|Or|With|Without)\b|It,|In one\b"
)
"""Beginnings of docstrings that are neither a noun phrase nor an imperative with its object."""
OLD_WORDS = {
    r"\bedges?\b": "transition",
    r"\btold\b(?! apart)|\btells? (?:a|an|its|the|that|workflows?|people)\b": "notify, signal, send, report, print",
    r"\bblam(?:e|es|ed|ing)\b": "attribute",
    r"\bmend(?:s|ed|ing|ers?)?\b": "repair",
    r"\bhand(?:s|ed|ing)?(?: \w+){0,2} over\b|\bhand-overs?\b": "assign",
    r"\bpatien(?:ce|t|tly)\b": "backoff, deadline, limit",
    r"\bengines?\b": "Temporal; the gateway",
    r"\bwakeups?\b": "notification",
    r"\bwrite-through\b": "write-behind",
    r"\bstanding\b": "state, status",
    r"\bat hand\b": "current",
    r"\bwork(?:s|ed|ing)? off\b": "process, carry out",
    r"\byet to come\b": "in the future",
    r"\bso(?: that)? of (?:a|an|two)\b": "either … or …",
    r"\bbeside\b": "next to, with, besides",
}
"""Words of earlier versions for things that the glossary names otherwise → what to write instead."""
SQL = re.compile(r"\b(?:SELECT|UPDATE|INSERT|DELETE|FROM|WHERE|CREATE|ALTER)\b|\w_\w")
PICTURES = {"workers/demo/filters.py", "tests/unit/test_prose.py"}
"""Programs about pictures, which have edges."""


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Bare strings of modules, classes and functions: docstrings, and the texts below constants and fields."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        for one in getattr(node, "body", ()) if isinstance(getattr(node, "body", ()), list) else ():
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) and isinstance(one.value.value, str):
                yield one.lineno, one.value.value


def names(path: Path) -> Iterator[str]:
    """The names of a program's classes, functions and parameters."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Sentences among a program's strings: logs, errors, texts of pages; no docstrings, no SQL."""
    tree = ast.parse(path.read_text("utf-8"))
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in bare:
            continue
        if " " in node.value.strip() and not SQL.search(node.value):
            yield node.lineno, node.value


def paragraphs(path: Path) -> Iterator[tuple[int, str]]:
    """A page's lines, without its code."""
    code = False
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        code ^= line.startswith("```")
        if not code:
            yield number, re.sub(r"`[^`]*`", "`", line)


def read(path: Path) -> Iterator[tuple[int, str]]:
    return (
        paragraphs(path)
        if path.suffix == ".md"
        else chain(
            docstrings(path),
            pieces(path.read_text("utf-8"), COMMENT),
            () if path.is_relative_to(ROOT / "tests") else messages(path),
        )
    )


PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PROGRAMS = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def is_dated(place: str) -> bool:
    """Whether a text keeps the words of its time: decisions and migrations."""
    return place.startswith(("docs/adr/", "infra/db/schema/versions/"))


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


def test_docstrings_have_a_head() -> None:
    headless = [
        f"{path.relative_to(ROOT)}:{line}: {text.strip().splitlines()[0]}"
        for path in PROGRAMS
        for line, text in docstrings(path)
        if HEADLESS.match(text.strip())
    ]
    assert not headless, "begin with a noun phrase, or an imperative with its object"


@pytest.mark.parametrize("pattern", OLD_WORDS)
def test_old_words_do_not_return(pattern: str) -> None:
    word = re.compile(pattern, re.IGNORECASE)
    found = [
        f"{place}: {match[0]!r}"
        for place, text in texts()
        if not is_dated(place) and place.partition(":")[0] not in PICTURES
        if (match := word.search(re.sub(r"\]\([^)]*\)", "]", text)))
    ]
    assert not found, f"write instead: {OLD_WORDS[pattern]}"


def test_old_words_are_no_names() -> None:
    old = re.compile(r"edges?|tell|told|untold|blamed?|mend|mended|hand_?over|patience|standing")
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in PROGRAMS
        if not is_dated(str(path.relative_to(ROOT)))
        for name in names(path)
        if any(old.fullmatch(word) for word in re.split(r"_|(?<=[a-z])(?=[A-Z])", name) for word in [word.lower()])
    ]
    assert not found
