"""Events: what the system says to those who follow it (ADR 0039)."""

from __future__ import annotations

from enum import StrEnum


class EventType(StrEnum):
    """The types of events."""

    TASK_CREATED = "task.created"
    TASK_STARTED = "task.started"
    TASK_RETRIED = "task.retried"
    TASK_ENDED = "task.ended"
    NODE_REGISTERED = "node.registered"
    NODE_OFFLINE = "node.offline"
    NODE_ONLINE = "node.online"
    NODE_FAULTY = "node.faulty"
    NODE_RECOVERED = "node.recovered"
    NODE_DRAINING = "node.draining"
    NODE_GONE = "node.gone"
    ALERT_RAISED = "alert.raised"
    ALERT_ACKNOWLEDGED = "alert.acknowledged"
    ALERT_RESOLVED = "alert.resolved"
    GROUP_ENDED = "group.ended"


RESET = "reset"
"""The type of the first event if the reader's cursor is of another log, or older than what is kept. Never stored."""

OF_TASKS = (EventType.TASK_CREATED, EventType.TASK_STARTED, EventType.TASK_RETRIED, EventType.TASK_ENDED)
"""The types that are about one task."""
OF_USERS = (*OF_TASKS, EventType.GROUP_ENDED)
"""The types that are about tasks."""
