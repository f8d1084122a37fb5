"""Timeouts and retry policies of the activities, in one place."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

DATABASE_STEP = timedelta(seconds=10)
DATABASE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), backoff_coefficient=2, maximum_interval=timedelta(seconds=10)
)
"""A local activity that is one short transaction: repeated until the database is back."""

FIRST_DISPATCH = timedelta(seconds=2)
"""The first try of a dispatch, as a local activity; bounded, since it holds the workflow task open."""

DISPATCH_WINDOW = timedelta(seconds=10)
"""How long an ambiguous dispatch is repeated before the node is suspected. Our own trouble has no such limit."""

DISPATCH_TRY = timedelta(seconds=10)
DISPATCH_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=500), backoff_coefficient=2, maximum_interval=timedelta(seconds=4)
)

STOP_TRY = timedelta(seconds=15)
STOP_TIMEOUT = timedelta(seconds=45)
STOP_RETRY = RetryPolicy(backoff_coefficient=2, maximum_interval=timedelta(seconds=8))
"""Asking a node to stop an attempt. One try takes up to 13 s. It is repeated while an ACTIVE node does not confirm the
stop: by default for longer than the grace. A thousand stops at one moment all get a turn within half of the time.
`verify` expects the workflow of an ended task to close within 60 s."""

ASK_TIMEOUT = timedelta(seconds=30)

MONITOR_STEP = timedelta(seconds=60)
MONITOR_BEAT = timedelta(seconds=10)
"""A step of a monitor run that has not beaten for this long is run again: its worker or its answer is lost."""

RETENTION_RUN = timedelta(hours=1)
RETENTION_RETRY = RetryPolicy(maximum_interval=timedelta(minutes=1))
"""A run that is cut off goes on where it was: what is forgotten is gone."""

OPERATION_PAGE = timedelta(seconds=60)
OPERATION_BEAT = timedelta(seconds=10)
"""A page of a bulk operation takes about a second; one that has not beaten for this long is repeated."""

WEBHOOK_TURN = timedelta(seconds=60)
WEBHOOK_BEAT = timedelta(seconds=10)
"""One turn of a webhook's deliveries; run again where its worker is lost."""
WEBHOOK_PAUSE_S = 0.2
"""The shortest pause between two turns."""

NODE_CHECK_AT_LEAST_S = 132.0
"""The deadline timer of a node is no shorter, to bound its history; the leader's scan is what finds silence soon."""

HISTORY_LIMIT = 1_000
"""Events after which a workflow continues as new: a long history must replay within two seconds."""


def history_is_long(info: workflow.Info) -> bool:
    """Whether a workflow should continue as new: by our limit, or because the server says so (it counts bytes too)."""
    return info.get_current_history_length() > HISTORY_LIMIT or info.is_continue_as_new_suggested()
