"""Which open attempts the reconciler ends: those past their time, unless nobody can have asked the node yet."""

from __future__ import annotations

import pytest

from activities.reconciler import DELIVERY_S, OVERDUE_S, UNHEARD_S
from infra.db.repair import drift
from tests.db import rows
from tests.db.sessions import Session

TIMEOUT_S = 1.0
IN_TIME = OVERDUE_S + TIMEOUT_S - 1
LATE = OVERDUE_S + TIMEOUT_S + 1
UNDELIVERED = LATE + DELIVERY_S


@pytest.mark.parametrize(
    ("claimed_s_ago", "accepted_s_ago", "attempt", "is_expired"),
    [
        (UNDELIVERED, IN_TIME, 2, False),
        (UNDELIVERED, LATE, 2, True),
        (LATE, None, 2, False),
        (UNDELIVERED, None, 2, True),
        (UNDELIVERED, None, 1, False),  # its workflow begins with its grant, and no worker was there
        (UNHEARD_S - 1, None, 1, False),
        (UNHEARD_S + 1, None, 1, True),
    ],
)
async def test_past_its_time(
    connection: Session, claimed_s_ago: float, accepted_s_ago: float | None, attempt: int, is_expired: bool
) -> None:
    def ago(seconds: float) -> object:
        return rows.Sql(f"clock_timestamp() - interval '{seconds} s'")

    await rows.node(connection, "g")
    await rows.task(connection, "t", attempts=attempt, timeout_ms=1000 * TIMEOUT_S)
    accepted = {} if accepted_s_ago is None else {"accepted_at": ago(accepted_s_ago)}
    await rows.attempt(connection, "t", attempt=attempt, claimed_at=ago(claimed_s_ago), **accepted)
    found = await drift.expired(connection, OVERDUE_S, DELIVERY_S, UNHEARD_S)
    assert [row.task_id for row in found] == ["t"] * is_expired
