"""The README in both languages says what the programs read and run, and both say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from infra.settings import Settings
from workers.cli import COMMANDS

ROOT = Path(__file__).parents[2]
NAMES = ("README.md", "README.zh-CN.md")
SPECIFIC = {"API_KEY", "PUBLIC_URL", "DATABASE_URL", "REDIS_URL", "TEMPORAL_ADDRESS"}  # unset: told in words


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def shown(value: object) -> str:
    """A default as a person sets it."""
    if isinstance(value, bool | dict):
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("name", NAMES)
def test_the_settings_are_those_that_are_read(name: str) -> None:
    told = dict(re.findall(r"^\| `([A-Z_]+)` \| `?(.*?)`? \|", text(name), re.MULTILINE))
    read = {field.upper(): info for field, info in Settings.model_fields.items()}
    assert told.keys() == read.keys()
    for setting, info in read.items():
        if setting not in SPECIFIC:
            default = (
                info.default if info.default is not PydanticUndefined else info.get_default(call_default_factory=True)
            )
            assert told[setting] == shown(default), setting


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_are_those_that_there_are(name: str) -> None:
    told = set(re.findall(r"^\| `gpu-orchestrator (\w+)` \|", text(name), re.MULTILINE))
    assert told == set(COMMANDS)
    targets = set(re.findall(r"^(\w+):", text("Makefile"), re.MULTILINE))
    assert set(re.findall(r"^\| `make (\w+)` \|", text(name), re.MULTILINE)) == targets


@pytest.mark.parametrize("name", NAMES)
def test_the_folders_of_the_tests_are_those_that_there_are(name: str) -> None:
    (row,) = re.findall(r"^\| `tests/` \| (.*) \|$", text(name), re.MULTILINE)
    assert all((ROOT / "tests" / folder).is_dir() for folder in re.findall(r"`(\w+)`", row))


def test_both_languages_have_the_same_parts() -> None:
    english, chinese = (text(name) for name in NAMES)
    assert parts(english) == parts(chinese)


def parts(readme: str) -> list[str]:
    """Headings by their level, the first cell of rows that name code, and the lines of code without their comments."""
    found, code = list[str](), False
    for line in readme.splitlines():
        if line.startswith("```"):
            code = not code
            found.append(line)
        elif code:
            found.append(re.split(r"\s*#", line)[0].rstrip())
        elif line.startswith("#"):
            found.append(line.split(" ")[0])
        elif row := re.match(r"\| (`[^|]*`) \|", line):
            found.append(row[1].replace("、", ", "))
    return found
