"""Which open attempts the reconciler ends: those past their time, unless nobody can have asked the node yet."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.mending import DELIVERY_S, PATIENCE_S, UNHEARD_S
from infra.db import reconciling
from tests.db import rows

TIMEOUT_S = 1.0
IN_TIME = PATIENCE_S + TIMEOUT_S - 1
LATE = PATIENCE_S + TIMEOUT_S + 1
UNDELIVERED = LATE + DELIVERY_S


@pytest.mark.parametrize(
    ("claimed_s_ago", "accepted_s_ago", "heard_of", "is_expired"),
    [
        (UNDELIVERED, IN_TIME, True, False),
        (UNDELIVERED, LATE, True, True),
        (LATE, None, True, False),
        (UNDELIVERED, None, True, True),
        (UNDELIVERED, None, False, False),  # its slot came with its creation, and no worker was there
        (UNHEARD_S - 1, None, False, False),
        (UNHEARD_S + 1, None, False, True),
    ],
)
async def test_past_its_time(
    connection: AsyncConnection, claimed_s_ago: float, accepted_s_ago: float | None, heard_of: bool, is_expired: bool
) -> None:
    def ago(seconds: float) -> object:
        return text(f"clock_timestamp() - interval '{seconds} s'")

    started = {"engine_started_at": text("clock_timestamp()")} if heard_of else {}
    await rows.node(connection, "g")
    await rows.task(connection, "t", attempts=1, timeout_ms=1000 * TIMEOUT_S, **started)
    accepted = {} if accepted_s_ago is None else {"accepted_at": ago(accepted_s_ago)}
    await rows.attempt(connection, "t", claimed_at=ago(claimed_s_ago), **accepted)
    found = await reconciling.expired(connection, PATIENCE_S, DELIVERY_S, UNHEARD_S)
    assert [row.task_id for row in found] == ["t"] * is_expired
