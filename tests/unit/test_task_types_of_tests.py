"""Files of tests share a stack: each has task types of its own, or one file's leftovers disturb the other's."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

FOLDERS = ("api", "e2e", "faults")
NOBODYS = {999}
"""A type that no node ever serves."""
_USED = re.compile(
    r"make_node\([^\n]*?\[([\d, ]+)\]|\.create\((\d+)|^(?:\w*TYPE\w*|[A-Z]+, [A-Z]+) = (\d{3}(?:, \d+)*)$", re.MULTILINE
)


def test_no_two_files_use_one_task_type() -> None:
    found: defaultdict[int, set[str]] = defaultdict(set)
    for folder in FOLDERS:
        for file in (Path(__file__).parent.parent / folder).glob("test_*.py"):
            for groups in _USED.findall(file.read_text()):
                for number in re.findall(r"\d+", "".join(groups)):
                    found[int(number)].add(file.name)
    shared = {number: names for number, names in found.items() if len(names) > 1 and number >= 100}
    assert len(found) > 100
    assert {number: names for number, names in shared.items() if number not in NOBODYS} == {}
