"""No statement is put together from what a caller sent: its parts are constants, its values are bound."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DB = ROOT / "infra" / "db"
MIGRATIONS = {DB / "schema" / "env.py", DB / "schema" / "online.py", *(DB / "schema" / "versions").iterdir()}
MODULES = sorted(set(DB.rglob("*.py")) - MIGRATIONS)
RUNS_SQL = {"execute": 0, "all": 1, "one": 1, "one_or_none": 1}
"""The functions that take a statement, and the position of that argument."""
STATEMENT = re.compile(r"\b(SELECT|INSERT INTO|DELETE FROM|UPDATE \w+ SET)\b")
AT_RUN_TIME = {
    ("ops/alerts", "latest"): "the conditions are values of _FILTERS",
    ("ops/event_log", "_page"): "its callers give constants",
    ("access/audit", "page"): "the conditions are values of _FILTERS",
    ("access/audit", "before"): "the conditions are values of _FILTERS",
    ("tasks/transitions", "_moved"): "its callers give constants",
    ("transactions/forget", "_each"): "its callers give constants",
    ("schema/revision", "_only"): "its callers give constants",
    ("tasks/lists", "page"): "the conditions are values of infra.db.tasks.filters._CONDITIONS",
    ("tasks/lists", "_kept_page"): "chooses between constants",
    ("tasks/operations", "matched"): "the conditions are values of infra.db.tasks.filters._CONDITIONS",
    ("tasks/operations", "page"): "the conditions are values of infra.db.tasks.filters._CONDITIONS",
    ("repair/verify", "find"): "the checks are constants of infra.db.repair",
}
"""Functions that put a statement together while they serve a request, and why that is safe."""


def named(module: Path) -> str:
    """Its path in infra/db, without the suffix."""
    return module.relative_to(DB).with_suffix("").as_posix()


def composed(tree: ast.AST) -> bool:
    """Whether a statement within is anything but one literal."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node.func) in RUNS_SQL]
    at = [(call.args, RUNS_SQL[_name(call.func)]) for call in calls]
    return any(not _fixed(arguments[index]) for arguments, index in at if index < len(arguments))


def _fixed(node: ast.AST) -> bool:
    """A literal, or a constant, or one of several."""
    if isinstance(node, ast.Subscript):
        node = node.value
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id.isupper())


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def run_time(tree: ast.Module) -> Iterator[str]:
    """Names of the functions that compose statements and are called by other functions, or by other modules."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    called = {_name(node.func) for one in functions for node in ast.walk(one) if isinstance(node, ast.Call)}
    for one in functions:
        if composed(one) and (one.name in called or not one.name.startswith("_")):
            yield one.name


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_statements_are_composed_while_the_program_loads(module: Path) -> None:
    found = {(named(module), name) for name in run_time(ast.parse(module.read_text("utf-8")))}
    assert found == {place for place in AT_RUN_TIME if place[0] == named(module)}


def test_all_sql_stands_in_infra_db() -> None:
    elsewhere = {
        path for folder in ("api", "activities", "workers", "workflows") for path in (ROOT / folder).rglob("*.py")
    }
    found = {path.relative_to(ROOT).as_posix() for path in elsewhere if STATEMENT.search(path.read_text("utf-8"))}
    assert found == {"workers/stack/postgres.py"}  # makes the database


@pytest.mark.parametrize(
    "source",
    ["def f(x):\n    execute(f'SELECT {x}')", "def _g(x):\n    execute('SELECT ' + x)\ndef h(x):\n    _g(x)"],
)
def test_the_check_finds_what_it_looks_for(source: str) -> None:
    assert list(run_time(ast.parse(source)))


def test_every_advisory_lock_is_listed_in_one_module() -> None:
    assert [module.stem for module in MODULES if "advisory_xact_lock" in module.read_text("utf-8")] == ["locks"]


def test_only_taking_its_locks_makes_a_release() -> None:
    assert [path.name for path in sorted(DB.rglob("*.py")) if re.search(r"\bRelease\(", path.read_text())] == [
        "locks.py"
    ]
