"""The node's reports on its attempts: progress as it comes, and the end until it is answered."""

from __future__ import annotations

import asyncio
import logging

import httpx

from workers.node.orchestrator import Orchestrator, message_of, retry_after
from workers.node.records import Record, ReportAddress
from workers.waiting import pauses

log = logging.getLogger(__name__)

PROGRESS_GAP = 0.5  # seconds between two progress reports of an attempt
_PROGRESS_TIMEOUT = 2.0  # seconds: the last report waits for one that is under way
_FIRST_DELAY, _LAST_DELAY = 0.2, 5.0  # seconds between repetitions of the last report


class ProgressReports:
    """The PROCESSING reports of one attempt: best effort, only the newest, never after `close`."""

    def __init__(self, orchestrator: Orchestrator, gpu_id: str, address: ReportAddress) -> None:
        self._orchestrator = orchestrator
        self._gpu_id = gpu_id
        self._address = address
        self._latest = 0
        self._news = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """The work has begun: report it, and keep reporting."""
        self._news.set()
        self._task = asyncio.create_task(self._pump())

    def progress(self, percent: int) -> None:
        """Returns at once; replaces what was not sent yet."""
        self._latest = percent
        self._news.set()

    async def close(self) -> None:
        """When this returns no report is under way, and none will follow."""
        self._closing.set()
        self._news.set()
        if self._task:
            await self._task

    async def _pump(self) -> None:
        while not self._closing.is_set():
            self._news.clear()
            await self._send()
            try:
                await asyncio.wait_for(self._closing.wait(), PROGRESS_GAP)
            except TimeoutError:
                await self._news.wait()

    async def _send(self) -> None:
        body = {
            "status": "PROCESSING",
            "gpuId": self._gpu_id,
            "message": "任务正在执行" if self._latest else "任务开始执行",
            "progress": self._latest,
        }
        try:
            answer = await self._orchestrator.report(self._address, "status", body, seconds=_PROGRESS_TIMEOUT)
        except httpx.HTTPError as error:
            log.debug("progress report lost: %r", error)
            return
        if not answer.is_success:
            log.info("progress report answered %d: %s", answer.status_code, message_of(answer))


async def deliver(orchestrator: Orchestrator, gpu_id: str, record: Record) -> None:
    """Repeat an attempt's last report until it is answered 200 or 400–404."""
    kind, body = _last_report(record, gpu_id)
    for delay in pauses(_FIRST_DELAY, _LAST_DELAY):
        try:
            answer = await orchestrator.report(record.address, kind, body)
        except httpx.HTTPError as error:
            log.warning("%s: could not deliver the %s report: %r", record.id, kind, error)
        else:
            if answer.is_success:
                return
            if 400 <= answer.status_code <= 404:
                log.warning("%s: %s dropped, answered %d: %s", record.id, kind, answer.status_code, message_of(answer))
                return
            log.warning("%s: %s answered %d: %s", record.id, kind, answer.status_code, message_of(answer))
            delay = max(delay, retry_after(answer))
        await asyncio.sleep(delay)


def _last_report(record: Record, gpu_id: str) -> tuple[str, dict[str, object]]:
    if record.status == "succeeded":
        return "result", {"result": record.output}
    status = "QUEUED" if record.handed_back else "FAILED"
    report = {"status": status, "gpuId": gpu_id, "message": record.error}
    return "status", report | ({"rejected": True} if record.rejected else {})
