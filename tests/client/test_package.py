"""The package's dependencies, and that both clients can do the same."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest

import gpu_orchestrator_client as package
from gpu_orchestrator_client import AsyncClient, Client

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients" / "python"
MOST = 14
NEVER = {"temporalio", "fastapi", "starlette"}


def needed(name: str, seen: set[str]) -> set[str]:
    """A distribution with all that it requires here, without extras."""
    if name in seen:
        return seen
    seen.add(name)
    for one in requires(name) or []:
        requirement, _, marker = one.partition(";")
        if "extra" not in marker and "python_version" not in marker:
            needed(re.split(r"[^A-Za-z0-9_.-]", requirement.strip())[0].lower(), seen)
    return seen


def test_it_needs_little() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[<>=]", one)[0] for one in project["dependencies"]]
    assert names == ["httpx", "pydantic"]
    found: set[str] = set()
    for name in names:
        needed(name, found)
    assert len(found) <= MOST
    assert not found & NEVER


def test_it_imports_nothing_else() -> None:
    pattern = re.compile(r"^\s*(?:from|import) (\w+)", re.MULTILINE)
    for module in PACKAGE.rglob("*.py"):
        for name in pattern.findall(module.read_text(encoding="utf-8")):
            assert name in {"httpx", "pydantic", "gpu_orchestrator_client", *sys.stdlib_module_names}, module.name


def methods(client: type) -> dict[str, list[str]]:
    return {
        name: list(inspect.signature(method).parameters)
        for name, method in inspect.getmembers(client, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_clients_can_do_the_same() -> None:
    assert methods(Client) == methods(AsyncClient)
    for name in methods(Client):
        assert inspect.getdoc(getattr(Client, name)) == inspect.getdoc(getattr(AsyncClient, name))


def test_each_name_is_imported_from_where_it_is() -> None:
    assert {getattr(package, name).__name__ for name in package.__all__ if name != "Update"} == {*package.__all__} - {
        "Update"
    }
    for name in ("json", "Record", "BY_CODE"):
        assert not hasattr(package, name)


@pytest.mark.parametrize(
    ("name", "unneeded"), [("BadRequest", "httpx pydantic asyncio"), ("Task", "httpx asyncio"), ("Client", "asyncio")]
)
def test_a_name_is_imported_without_what_it_does_not_need(name: str, unneeded: str) -> None:
    assert loaded(f"from gpu_orchestrator_client import {name}", unneeded) == []


def loaded(statement: str, names: str) -> list[str]:
    """The modules among `names` that a statement imports, in an interpreter of its own."""
    look = f"import sys; {statement}; print(*{{*{names.split()!r}}} & {{*sys.modules}})"
    return subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout.split()


def test_the_core_waits_for_neither_httpx_nor_pydantic() -> None:
    assert loaded("import gpu_orchestrator_client.streams", "httpx pydantic asyncio") == []
