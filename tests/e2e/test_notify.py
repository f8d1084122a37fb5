"""Alerts reach a receiver on loopback: grouped, once in spite of a bad answer and a kill, and once more when over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.begun import begun
from tests.conftest import Api, eventually, fleet, frontend, thrown_away
from tests.e2e.inside import change, select
from tests.receiver import Got, Receiver
from tests.stack_settings import stack_settings
from workers.stack.stack import Stack

NOTED = """
    SELECT FROM monitor_reports WHERE starts_with(name, 'notify:') AND body ->> 'failures' = '0'
       AND CAST(body ->> 'not_before' AS timestamptz) < clock_timestamp() + interval '15 s'"""
"""The second message is noted as sent."""
FAILED = "SELECT FROM monitor_reports WHERE starts_with(name, 'notify:') AND body ->> 'failures' = '1'"
NO_PAUSE = """
    UPDATE monitor_reports SET body = CAST(CAST(body AS jsonb) - 'not_before' AS json)
     WHERE starts_with(name, 'notify:')"""
"""Let the pause before the next message be over."""
NODES = ("notified_1", "notified_2", "notified_3")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as running:
        yield running


@pytest.fixture
async def stack(tmp_path: Path, receiver: Receiver) -> AsyncIterator[Stack]:
    url = f"json://user:secret@127.0.0.1:{receiver.port}/in"  # pragma: allowlist secret
    settings = stack_settings(begun(tmp_path / "data"), notify=f"CRITICAL {url}", monitor_interval=30)
    async with thrown_away(Stack(settings, nodes=0)) as running:
        yield running


@pytest.fixture
async def api(stack: Stack) -> AsyncIterator[Api]:
    async with frontend(stack) as caller:
        yield caller


async def message(receiver: Receiver, number: int) -> tuple[str, list[str]]:
    """Title and lines of a message, and its type: the first is 1."""

    async def came() -> Got | None:
        return receiver.got[number - 1] if len(receiver.got) >= number else None

    found = json.loads((await eventually(came, within=60)).body)
    return found["title"], sorted(found["message"].splitlines())


async def test_alerts_are_sent_together_and_once_more_when_they_are_over(
    api: Api, stack: Stack, receiver: Receiver
) -> None:
    receiver.answers.append(500)
    async with fleet(api) as make:
        for gpu_id in NODES:
            await make(gpu_id, [882])
        await asyncio.gather(*(api.post(f"/gpus/{gpu_id}/fault?reason=smoke") for gpu_id in NODES))
        title, lines = await message(receiver, 1)
        assert title == "[严重] GPU故障告警等 3 条告警"
        assert [line.rpartition(" (")[0] for line in lines] == [
            f"[严重] GPU故障告警: GPU节点 {gpu_id} 检测到故障: smoke" for gpu_id in NODES
        ]
        await eventually(lambda: select(stack, FAILED))  # it was answered 500
        await change(stack, NO_PAUSE)
        assert await message(receiver, 2) == (title, lines)
        await eventually(lambda: select(stack, NOTED))
        await change(stack, NO_PAUSE)
        for name in ("api", "worker"):
            stack.part(name).kill()
        await stack.part("api").until_ready(30)
        await asyncio.gather(*(api.post(f"/gpus/{gpu_id}/recover") for gpu_id in NODES))
        title, over = await message(receiver, 3)
        assert title == "[已恢复] GPU故障告警等 3 条告警"
        assert over == [line.replace("严重", "已恢复") for line in lines]
        assert len(receiver.got) == 3
        shown = await api.alerts("notified")
        assert [(one["status"], one["resolvedAt"] is not None) for one in shown] == [("ACTIVE", True)] * 3
    for log in (stack.data_dir.root / "logs").iterdir():
        assert "user:secret" not in log.read_text("utf-8", errors="replace")
