"""docs/code-map.md is true: its files and folders exist, and its walks are as long as it says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/code-map.md").read_text("utf-8")
SHARED = re.findall(r"`([\w/]+\.py)`", PAGE.partition("\n## ")[0])
WALKS = [section for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:] if not section.startswith("Folders")]
COUNTS = r"\b(\d+) files, ([\d,]+) lines; with the shared ones (\d+) files, ([\d,]+) lines\.$"
NUMBERS = {6: "Six", 7: "Seven", 8: "Eight"}


def files(walk: str) -> list[str]:
    """The files in the first column of a walk's table, each once."""
    return list(dict.fromkeys(name for cell in _cells(walk) for name in re.findall(r"`([\w/]+\.py)`", cell)))


def _cells(walk: str) -> list[str]:
    return re.findall(r"^\| (`.+?) \|", walk, re.MULTILINE)


def _lines(names: Iterable[str]) -> int:
    return sum(len((ROOT / name).read_text("utf-8").splitlines()) for name in names)


def test_files_and_folders_exist() -> None:
    named = re.findall(r"`([\w/]+(?:\.py|/))`", PAGE)
    assert len(named) > 20
    assert SHARED
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_page_counts_its_walks() -> None:
    assert f"{NUMBERS[len(WALKS)]} walks" in PAGE


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.splitlines()[0])
def test_a_walk_is_as_long_as_the_page_says(walk: str) -> None:
    """Its lines within a twentieth, so that not every change has to count them again."""
    own, all_of_them = files(walk), {*files(walk), *SHARED}
    counted = (
        f"{len(own)} files, {_lines(own):,} lines; "
        f"with the shared ones {len(all_of_them)} files, {_lines(all_of_them):,} lines."
    )
    given = re.search(COUNTS, walk, re.MULTILINE)
    assert given, counted
    numbers = [int(one.replace(",", "")) for one in given.groups()]
    assert (numbers[0], numbers[2]) == (len(own), len(all_of_them)), counted
    assert numbers[1] == pytest.approx(_lines(own), rel=0.05), counted
    assert numbers[3] == pytest.approx(_lines(all_of_them), rel=0.05), counted


def test_the_folders_of_the_tests_are_there() -> None:
    (row,) = re.findall(r"^\| `tests/` \| (.*) \|$", PAGE, re.MULTILINE)
    there = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert set(re.findall(r"`(\w+)`", row)) == there
