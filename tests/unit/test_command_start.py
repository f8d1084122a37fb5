"""The commands that call the API start at once: what they import is bounded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.unit.fake_api import FakeApi, serving
from workers.cli import COMMANDS

OURS = sorted(name for name, (module, _) in COMMANDS.items() if module.startswith("workers.command."))
HEAVY = {
    "httpx", "pydantic", "asyncio", "aiohttp", "fastapi", "temporalio", "sqlalchemy", "psycopg", "msgspec",
    "workflows", "api", "activities", "multiprocessing", "rich",
}  # fmt: skip
MOST_FOR_HELP, MOST = 150, 210
"""Modules, those of the interpreter and of its environment too; 121 and 172 now. asyncio alone has 30, httpx 150."""
LOOK = """
import sys
from workers import cli
sys.argv = ["gpu-orchestrator", *{words!r}]
try:
    cli.main()
except SystemExit:
    pass
print(*sys.modules, file=sys.__stderr__)
"""


def imported(*words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK.format(words=words)], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stderr.split("\n")[-2].split())


def heavy(found: set[str]) -> set[str]:
    return {one.partition(".")[0] for one in found} & HEAVY


@pytest.mark.parametrize("name", ["", *OURS])
def test_help_imports_little(name: str) -> None:
    found = imported(*([name] if name else []), "--help")
    assert not heavy(found)
    assert "ssl" not in found
    assert len(found) <= MOST_FOR_HELP


def test_a_call_imports_little(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(FakeApi({"GET /gpus": [(200, [{"gpuId": "gpu_001"}])]})) as api:
        monkeypatch.setenv("GPU_ORCHESTRATOR_URL", api.url)
        monkeypatch.setenv("GPU_ORCHESTRATOR_KEY", "k")
        found = imported("nodes", "--json")
        assert len(api.calls) == 1
    assert not heavy(found)
    assert len(found) <= MOST
