"""The inside of the system: rows of the database, and histories of Temporal."""

from __future__ import annotations

from collections import Counter
from typing import Any

import psycopg
from psycopg.rows import dict_row
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from workers.stack.stack import Stack


async def select(stack: Stack, statement: str, *values: Any) -> list[dict[str, Any]]:
    """Rows straight from the stack's Postgres."""
    async with (
        await psycopg.AsyncConnection.connect(_url(stack), row_factory=dict_row) as connection,
        await connection.execute(statement, values) as cursor,
    ):
        return await cursor.fetchall()


async def change(stack: Stack, *statements: str) -> None:
    """Change rows in the stack's Postgres, in one transaction."""
    async with await psycopg.AsyncConnection.connect(_url(stack)) as connection:
        for statement in statements:
            await connection.execute(statement)


def _url(stack: Stack) -> str:
    return stack.services.database_url.replace("postgresql+psycopg", "postgresql")


async def signals(stack: Stack, workflow_id: str) -> Counter[str]:
    """How often a workflow's current run was sent each signal."""
    client = await Client.connect(stack.services.temporal_address, namespace=stack.services.temporal_namespace)
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    return Counter(
        event.workflow_execution_signaled_event_attributes.signal_name
        for event in history.events
        if event.HasField("workflow_execution_signaled_event_attributes")
    )


async def steps_of(temporal: Client, task_id: str) -> list[str]:
    """The types of the events in the history of a task's current run, without the prefix that all have."""
    history = await temporal.get_workflow_handle(f"task-{task_id}").fetch_history()
    return [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in history.events]


async def is_started(temporal: Client, task_id: str) -> bool:
    """Whether the task has a workflow, begun or not: that of a task that waits is started in the background."""
    try:
        await temporal.get_workflow_handle(f"task-{task_id}").describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True
