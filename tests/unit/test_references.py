"""Every reference in code, tests and documents leads somewhere (docs/glossary.md, "References")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.api.specification import MODELS, SECTIONS
from tests.unit.sources import COMMENT, STRING, pieces

ROOT = Path(__file__).parents[2]
FOLDERS = ("workflows", "infra", "activities", "api", "workers", "tests", "docs")
KINDS = {".py", ".md", ".toml", ".yml", ".yaml", ".sql"}
NOT_PAGES = {"CAPABILITIES", "HOUSE", "STYLE", "FIELD", "CONSOLE"}
"""Names in capitals that are no pages of this repository: nobody can follow them."""


def _found(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in KINDS and path.is_file())


FILES = [
    *(path for folder in FOLDERS for path in _found(ROOT / folder)),
    *(path for path in sorted(ROOT.iterdir()) if path.suffix in KINDS or path.name in {"Makefile", "Dockerfile"}),
]
PAGES = [path for path in FILES if path.suffix == ".md"]
NAMES = {
    name: ROOT / "docs" / page
    for name, page in re.findall(
        r"\b([A-Z_]+)\b (?:is )?\[(\S+?\.md)\]", (ROOT / "docs/glossary.md").read_text("utf-8")
    )
}
"""Short names of pages, as the glossary lists them."""


@cache
def prose(path: Path) -> str:
    """The text of a file that people read, in one line: comments and strings of a program, all of another file."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        text = " ".join(piece for _, piece in pieces(text, COMMENT, STRING))
    return " ".join(text.split())


def all_of(pattern: str, paths: list[Path] = FILES) -> Iterator[tuple[Path, re.Match[str]]]:
    for path in paths:
        for found in re.finditer(pattern, prose(path)):
            yield path, found


@cache
def without_code(path: Path) -> str:
    return re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


@cache
def headings(path: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", without_code(path), re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """Anchors as GitHub makes them of headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(path)}


def terms(path: Path) -> set[str]:
    """The targets of references to a page: headings, numbers of a list, words in bold or as code."""
    text = without_code(path)
    numbers = re.findall(r"^(\d+)\. ", text, re.MULTILINE)
    words = re.findall(r"\*\*(.+?)\*\*|`(.+?)`", text)
    return {term.strip("`.").lower() for term in [*headings(path), *numbers, *(a or b for a, b in words)]}


REFERENCE = r"""(?<![\w/`])(%s)(?:\.md)?(?:, (?:"(?P<quoted>[^"]+)"|(?P<plain>[^,;:()"]+)))?(?=[\s,;:.)"]|$)"""


def test_a_name_in_capitals_is_a_page_and_names_a_part_of_it() -> None:
    named = [*NAMES, *NOT_PAGES]
    wrong, followed = [], 0
    for path, found in all_of(REFERENCE % "|".join(sorted(named, key=len, reverse=True))):
        part = found["quoted"] or found["plain"]
        if found[1] in NOT_PAGES and (part or f"({found[1]})" in prose(path)):
            wrong.append((path, found[0]))
        elif found[1] in NAMES and part and (path.suffix == ".py" or found["quoted"]):
            followed += 1
            if part.strip("`").lower() not in terms(NAMES[found[1]]):
                wrong.append((path, found[0]))
    assert not wrong
    assert followed > 20


def test_a_page_that_is_named_exists_and_has_the_heading() -> None:
    wrong, followed = [], 0
    for path, found in all_of(r"""\bdocs/([\w/-]+\.md)(?:, "([^"]+)")?"""):
        page = ROOT / "docs" / found[1]
        followed += 1
        if not page.is_file() or (found[2] and found[2] not in headings(page)):
            wrong.append((path, found[0]))
    assert not wrong
    assert followed > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_s_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        if re.match(r"[a-z]+://|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_a_decision_that_is_named_exists() -> None:
    numbers = {path.name[:4] for path in (ROOT / "docs/adr").glob("[0-9]*.md")}
    named = {
        found[0]
        for _, match in all_of(r"\bADR (\d{4}(?:(?:, | and )\d{4})*)")
        for found in re.finditer(r"\d{4}", match[1])
    }
    assert named
    assert named <= numbers


def test_a_section_of_the_specification_exists() -> None:
    chapters = {section.split(".")[0] for section in SECTIONS}
    named = {found[1] for _, found in all_of(r"(?<!`)§(\d+(?:\.\d+)?)")}
    assert len(named) > 10
    assert named <= {*chapters, *SECTIONS}


def test_a_field_or_heading_of_the_specification_exists() -> None:
    words = re.split(r"[\s、:|,]+", prose(ROOT / "docs/glossary.md"))
    for path, found in all_of(r"[Ss]pecification, (?:§|([A-Z]\w+)(?:\.(\w+))?|((?:cURL)?[^\x00-\x7f]+))"):
        if found[1] in MODELS:
            assert not found[2] or found[2] in MODELS[found[1]], (path, found[0])
        elif found[1] or found[3]:
            assert (found[1] or found[3]) in words, (path, found[0])


def test_a_file_of_ours_that_is_named_exists() -> None:
    folders = "|".join(FOLDERS)
    wrong = [
        (path, found[0])
        for path, found in all_of(rf"(?<![\w/.-])(?:{folders})/[\w/-]+\.(?:py|md|svg|json|yml)\b")
        if not (ROOT / found[0]).exists()
    ]
    assert not wrong


def test_a_test_that_a_page_names_exists() -> None:
    there = {
        name
        for path in FILES
        if path.suffix == ".py"
        for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))
    }
    modules = {path.stem for path in FILES}
    named = {found[1] for _, found in all_of(r"\b(test_\w+)", PAGES)}
    assert named <= there | modules


def test_the_index_of_decisions_is_what_the_records_say() -> None:
    folder = ROOT / "docs/adr"
    rows = re.findall(
        r"^\| \[(\d{4})\]\((\S+)\) \| (\S+) \| (.+?) \| \S.+ \|$",
        (folder / "index.md").read_text("utf-8"),
        re.MULTILINE,
    )
    records = [(path.name[:4], path.name, *_head(path)) for path in sorted(folder.glob("[0-9]*.md"))]
    assert rows == records, "docs/adr/index.md: each record with its date and status"


@pytest.mark.parametrize("record", sorted((ROOT / "docs/adr").glob("[0-9]*.md")), ids=lambda record: record.name[:4])
def test_a_decision_names_its_alternatives(record: Path) -> None:
    assert {"Context", "Decision", "Alternatives", "Consequences"} <= set(headings(record))


def _head(record: Path) -> tuple[str, str]:
    found = re.search(r"^Date: (\d{4}-\d\d-\d\d)\nStatus: (.+)$", record.read_text("utf-8"), re.MULTILINE)
    assert found, f"{record.name} has no date or status"
    return found[1], found[2]
