"""Findings of `gpu-orchestrator verify` in the nodes' own logs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from infra.db.repair import verify
from workers.verify.node_logs import NodeLogs

COMPACT, SPACED = '{"n":1}', '{"n": 1}'


class OneResult:
    """A database that is asked for nothing but the result's text."""

    async def run(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        return await work(None)


def line(event: str, *, gpu_id: str = "g", attempt: int = 1, **more: Any) -> str:
    return json.dumps({"event": event, "taskId": "t", "attempt": attempt, "gpuId": gpu_id, **more}) + "\n"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def findings(
    monkeypatch: pytest.MonkeyPatch, folder: Path, lines: list[str], result: str = COMPACT
) -> tuple[verify.Finding, verify.Finding]:
    """The findings on attempt 1 of task t, whose accepted result is node g's."""

    async def text(*_: Any) -> str:
        return result

    monkeypatch.setattr(verify, "result", text)
    (folder / "attempts.jsonl").write_text("".join(lines))
    logs = NodeLogs()
    logs.add(folder)
    row = verify.AcceptedResult("t", 1, "g", sha256(result))
    twice, foreign = await logs.check([row], OneResult())  # type: ignore[arg-type]
    return twice, foreign


async def test_one_execution_with_the_accepted_result_is_sound(monkeypatch, tmp_path):
    lines = [line("accepted"), line("started"), line("succeeded", sha256=sha256(COMPACT)), '{"event": "star']
    for finding in await findings(monkeypatch, tmp_path, lines):
        assert (finding.rows, finding.violations) == (1, 0)


async def test_a_result_that_came_with_the_dispatch_is_the_same_though_spaced_differently(monkeypatch, tmp_path):
    _, foreign = await findings(monkeypatch, tmp_path, [line("succeeded", sha256=sha256(COMPACT))], SPACED)
    assert foreign.violations == 0


async def test_an_attempt_that_began_twice_is_found(monkeypatch, tmp_path):
    twice, _ = await findings(monkeypatch, tmp_path, [line("started"), line("started", gpu_id="other")])
    assert twice.examples == ["t-1 ran 2 times"]


@pytest.mark.parametrize(
    "logged",
    [
        line("started"),
        line("succeeded", sha256=sha256('{"n":2}')),
        line("succeeded", attempt=2, sha256=sha256(COMPACT)),
        line("succeeded", gpu_id="other", sha256=sha256(COMPACT)),
    ],
)
async def test_a_result_that_its_node_did_not_log_is_found(monkeypatch, tmp_path, logged):
    _, foreign = await findings(monkeypatch, tmp_path, [logged])
    assert foreign.examples == ["t-1 of g"]
