"""Where reports go, and how an attempt's last report is repeated."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from workers.node.orchestrator import Orchestrator
from workers.node.outcome import failed, handed_back, rejected, succeeded
from workers.node.records import Record, ReportAddress
from workers.node.reporter import ProgressReports, deliver

ADDRESS = ReportAddress("/api/v2/tasks/task_1", "token", None)
RECORD = Record("task_1-1", "task_1", 1, 2, ADDRESS)


class FakeOrchestrator(Orchestrator):
    """Answers reports from a script: a status, a status with Retry-After, or no answer at all; then 200."""

    def __init__(self, *script: int | tuple[int, str] | None) -> None:
        self.script = list(script)
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.heard = asyncio.Condition()
        self.gate = asyncio.Event()
        self.gate.set()

    async def report(
        self, address: ReportAddress, kind: str, body: Any, seconds: float | None = None
    ) -> httpx.Response:
        async with self.heard:
            self.reports.append((kind, body))
            self.heard.notify_all()
        await self.gate.wait()
        answer = self.script.pop(0) if self.script else 200
        if answer is None:
            raise httpx.ConnectError("refused")
        status, headers = (answer, {}) if isinstance(answer, int) else (answer[0], {"Retry-After": answer[1]})
        return httpx.Response(status, headers=headers, json={"code": status, "message": "m", "data": None})

    async def until(self, number: int) -> None:
        """Wait for a number of reports."""
        async with self.heard:
            await self.heard.wait_for(lambda: len(self.reports) >= number)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    delays: list[float] = []

    async def sleep(seconds: float) -> None:
        delays.append(seconds)

    monkeypatch.setattr("workers.node.reporter.asyncio.sleep", sleep)
    return delays


@pytest.mark.parametrize(
    ("webhook", "path"),
    [
        ("http://api:8080/api/v2/tasks/task_1", "/api/v2/tasks/task_1"),
        ("HTTP://API:8080/proxied/tasks/task_1/?x=1#y", "/proxied/tasks/task_1"),
        ("http://other:8080/api/v2/evil", "/api/v2/tasks/task%2F1"),
        ("http://api:8081/api/v2/evil", "/api/v2/tasks/task%2F1"),
        ("https://api:8080/api/v2/evil", "/api/v2/tasks/task%2F1"),
        ("http://api:8080@evil/x", "/api/v2/tasks/task%2F1"),
        ("http://[", "/api/v2/tasks/task%2F1"),
        (None, "/api/v2/tasks/task%2F1"),
    ],
)
async def test_only_webhooks_of_the_own_orchestrator_are_trusted(webhook: str | None, path: str) -> None:
    orchestrator = Orchestrator("http://api:8080/api/v2", "key")
    assert orchestrator.report_path(webhook, "task/1") == path
    await orchestrator.close()


async def test_the_last_report_is_repeated_until_answered(slept: list[float]) -> None:
    orchestrator = FakeOrchestrator(None, 500, 302, (503, "7"), (429, "9999"), (500, "30"), 200)
    await deliver(orchestrator, "gpu_1", RECORD.ended(succeeded("{}")))
    assert orchestrator.reports == [("result", {"result": "{}"})] * 7
    assert slept[3:5] == [7, 60]
    assert 0.1 < slept[0] < slept[1] < slept[2] < 1.1
    assert slept[5] <= 6


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_refused_last_report_is_dropped(status: int, slept: list[float]) -> None:
    orchestrator = FakeOrchestrator(status)
    await deliver(orchestrator, "gpu_1", RECORD.ended(failed("no face")))
    assert orchestrator.reports == [("status", {"status": "FAILED", "gpuId": "gpu_1", "message": "no face"})]
    assert slept == []


async def test_a_rejection_is_said_so(slept: list[float]) -> None:
    orchestrator = FakeOrchestrator()
    await deliver(orchestrator, "gpu_1", RECORD.ended(rejected("no face")))
    report = {"status": "FAILED", "gpuId": "gpu_1", "message": "no face", "rejected": True}
    assert orchestrator.reports == [("status", report)]


async def test_a_hand_back_is_reported_as_queued(slept: list[float]) -> None:
    orchestrator = FakeOrchestrator()
    await deliver(orchestrator, "gpu_1", RECORD.ended(handed_back("the node is draining")))
    assert orchestrator.reports[0][1]["status"] == "QUEUED"


async def test_progress_keeps_the_newest_only_and_never_follows_the_end() -> None:
    orchestrator = FakeOrchestrator(None)  # the first one gets lost: nobody cares
    orchestrator.gate.clear()
    reports = ProgressReports(orchestrator, "gpu_1", ADDRESS)
    reports.begin()
    async with asyncio.timeout(5):
        await orchestrator.until(1)
        for percent in range(1, 51):
            reports.progress(percent)
        orchestrator.gate.set()
        await orchestrator.until(2)
        reports.progress(99)
        await reports.close()
    assert [body["progress"] for _, body in orchestrator.reports] == [0, 50]
