"""docs/code-map.md is true: its files and folders exist, and its walks are as long as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/code-map.md").read_text("utf-8")
WALKS = [section for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:] if not section.startswith("Folders")]
NUMBERS = {6: "Six", 7: "Seven", 8: "Eight"}


def files(walk: str) -> list[str]:
    """The files in the first column of a walk's table, each once."""
    return list(dict.fromkeys(name for cell in _cells(walk) for name in re.findall(r"`([\w/]+\.py)`", cell)))


def _cells(walk: str) -> list[str]:
    return re.findall(r"^\| (`.+?) \|", walk, re.MULTILINE)


def test_files_and_folders_exist() -> None:
    named = re.findall(r"`([\w/]+(?:\.py|/))`", PAGE)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_page_counts_its_walks() -> None:
    assert f"{NUMBERS[len(WALKS)]} walks" in PAGE


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.splitlines()[0])
def test_a_walk_is_as_long_as_the_page_says(walk: str) -> None:
    """Its lines within a twentieth, so that not every change counts them anew."""
    lines = sum(len((ROOT / name).read_text("utf-8").splitlines()) for name in files(walk))
    told = re.search(r"\b(\d+) files, ([\d,]+) lines\.$", walk, re.MULTILINE)
    assert told, f"{len(files(walk))} files, {lines:,} lines"
    assert int(told[1]) == len(files(walk))
    assert int(told[2].replace(",", "")) == pytest.approx(lines, rel=0.05)


def test_the_folders_of_the_tests_are_there() -> None:
    (row,) = re.findall(r"^\| `tests/` \| (.*) \|$", PAGE, re.MULTILINE)
    there = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert set(re.findall(r"`(\w+)`", row)) == there
