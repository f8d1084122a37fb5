"""The README says the same in both languages and stays short; the pages that it leads to are complete."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from api.routes.roles import ALLOWED
from workers.cli import COMMANDS

ROOT = Path(__file__).parents[2]
NAMES = ("README.md", "README.zh-CN.md")
LINES = 130


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_commands_are_those_that_there_are() -> None:
    page = text("docs/commands.md")
    assert set(re.findall(r"^\| `gpu-orchestrator (\w+)` \|", page, re.MULTILINE)) == set(COMMANDS)
    targets = set(re.findall(r"^([\w-]+):", text("Makefile"), re.MULTILINE))
    assert set(re.findall(r"^\| `make ([\w-]+)` \|", page, re.MULTILINE)) == targets


@pytest.mark.parametrize("name", NAMES)
def test_a_readme_is_short_and_names_the_test_command(name: str) -> None:
    assert len(text(name).splitlines()) <= LINES
    assert re.search(r"^make test\b", text(name), re.MULTILINE)
    assert re.search(r"^make test$", text(".ci/run"), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_a_readme_leads_to_every_page(name: str) -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"dependencies.md"}  # CONTRIBUTING leads there
    assert pages <= set(re.findall(r"\(docs/([\w-]+\.md)\)", text(name)))


def test_the_dependencies_are_those_that_are_declared() -> None:
    tables = re.findall(r"^\| (\w+) \| why \|\n\|.*\n((?:\|.*\n)+)", text("docs/dependencies.md"), re.MULTILINE)
    documented = {
        group: {name for row in rows.splitlines() for name in row.split(" | ")[0][2:].split(", ")}
        for group, rows in tables
    }
    project = tomllib.loads(text("pyproject.toml"))["project"]
    declared = {"runtime": project["dependencies"], **project["optional-dependencies"]}
    assert documented == {name: {re.split(r"[\[><=;]", one)[0] for one in group} for name, group in declared.items()}


def test_who_may_call_what_is_what_the_code_allows() -> None:
    section = text("docs/invariants.md").split("\n## Who may call what\n")[1]
    documented = {
        endpoint: {role.split(":")[0].strip() for role in roles.split(", ")}
        for endpoints, roles in re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|$", section, re.MULTILINE)
        for endpoint in re.findall(r"`([^`]+)`", endpoints)
    }
    assert documented == {endpoint: {str(role) for role in roles} for endpoint, roles in ALLOWED.items()}


def test_both_languages_have_the_same_parts() -> None:
    english, chinese = (text(name) for name in NAMES)
    assert parts(english) == parts(chinese)


def parts(readme: str) -> list[str]:
    """Headings by their level, the pages of each row, and the lines of code without their comments."""
    found, code = list[str](), False
    for line in readme.splitlines():
        if line.startswith("```"):
            code = not code
            found.append(line)
        elif code:
            found.append(re.split(r"\s*#", line)[0].rstrip())
        elif line.startswith("#"):
            found.append(line.split(" ")[0])
        elif line.startswith("| ["):
            found += re.findall(r"\]\((\S+?)\)", line)
    return found
