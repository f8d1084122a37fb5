"""The leader notifies a webhook's workflow again in its next turn if it could not."""

from __future__ import annotations

from typing import Any

import pytest

from infra.db.webhooks import due
from infra.temporal.access import TemporalAway
from workers.leader.webhooks import attend_webhooks


class _Database:
    async def run(self, work: Any) -> Any:
        return await work(None)

    single = run


class _Temporal:
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def attend_webhook(self, webhook_id: str) -> None:
        raise self._error


@pytest.mark.parametrize("error", [TemporalAway("away"), RuntimeError("a bug")])
async def test_a_notification_that_fails_is_undone(monkeypatch, error):
    undone: list[str] = []

    async def unattended(connection: None, limit: int) -> list[str]:
        return ["wh_1"]

    async def unattend(connection: None, webhook_id: str) -> None:
        undone.append(webhook_id)

    async def deleted(connection: None) -> list[str]:
        return []

    monkeypatch.setattr(due, "unattended", unattended)
    monkeypatch.setattr(due, "unattend", unattend)
    monkeypatch.setattr(due, "deleted", deleted)
    await attend_webhooks(_Database(), _Temporal(error))  # type: ignore[arg-type]
    assert undone == ["wh_1"]
