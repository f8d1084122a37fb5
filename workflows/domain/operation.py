"""Bulk operations: what is done to many tasks, and how far it is."""

from __future__ import annotations

from enum import StrEnum


class OperationKind(StrEnum):
    """The change that an operation makes to each task."""

    CANCEL = "CANCEL"
    RETRY = "RETRY"


class OperationState(StrEnum):
    """RUNNING until every task has had its turn."""

    RUNNING = "RUNNING"
    DONE = "DONE"
