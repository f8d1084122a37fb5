"""The attempts that hold a slot, in SQL (ADR 0034)."""

from __future__ import annotations

from infra.db import clock
from infra.db.connection import listed
from workflows.domain.attempt import HELD_S, NODE_STILL_RUNS_IT, Outcome

_STILL = listed(NODE_STILL_RUNS_IT)


def holds(attempt: str) -> str:
    """The attempt holds its slot: it is open, or was closed less than `HELD_S` ago and its node may still run it.

    Programs of the previous version write no `released_at`, so their closes hold a slot by these rules too.
    """
    return (
        f"{attempt}.released_at IS NULL AND ({attempt}.closed_at IS NULL OR {attempt}.outcome IN ({_STILL})"
        f" AND {clock.recent(f'{attempt}.closed_at', _AT_MOST)})"
    )


def may_run(attempt: str) -> str:
    """The node of a closed attempt may still run it, and is to be asked to stop.

    If the attempt ended with its task, this stays true: the clock frees the slot, but stops no process.
    """
    return (
        f"COALESCE({attempt}.outcome = '{Outcome.TASK_ENDED}'"
        f" OR {attempt}.outcome IN ({_STILL}) AND {attempt}.released_at IS NULL, false)"
    )


def left_s(attempt: str) -> str:
    """Seconds for which a closed attempt that holds its slot still does; null if it is open."""
    return (
        f"CASE WHEN {attempt}.closed_at IS NOT NULL"
        f" THEN GREATEST({HELD_S:g} - extract(epoch FROM {clock.NOW} - {attempt}.closed_at), 0)::float END"
    )


_AT_MOST = f"interval '{HELD_S:g} s'"
IS_OVER = f"released_at IS NULL AND closed_at IS NOT NULL AND NOT {clock.recent('closed_at', _AT_MOST)}"
"""The attempt holds no slot any more, and that is not recorded yet."""
IS_CLOSED_WITHOUT_ITS_NODE = f"outcome IN ({_STILL}, '{Outcome.LOST}')"
"""The attempt was closed, but not by its node."""
DAY = "interval '1 day'"
IS_UNCONFIRMED = (
    f"(outcome = '{Outcome.LOST}' OR outcome IN ({_STILL})"
    f" AND (released_at IS NULL OR released_at - closed_at >= {_AT_MOST}))"
)
"""The attempt was closed while its node might run it, and the node has not said within `HELD_S` that it has stopped.
An index holds these."""
IS_TO_STOP = f"{IS_UNCONFIRMED} AND {clock.recent('closed_at', DAY)} AND (a.ip, a.port) = (g.ip, g.port)"
"""An unconfirmed attempt `a` that its node `g` may still run when it is back: closed within the last day, for which
nodes remember ids, and at the node's present address. A node that has moved cannot be asked any more."""
IS_BACK = (
    "(g.status = 'ACTIVE' AND (g.attended_epoch, g.attended_status) IS DISTINCT FROM (g.epoch, g.status)"
    f" AND EXISTS (SELECT FROM attempts a WHERE a.gpu_id = g.gpu_id AND {IS_TO_STOP}))"
)
"""The node `g` gets work again, and has not been asked yet to stop the closed attempts that it may still run. Until
then only time ends its wait for the stops."""
