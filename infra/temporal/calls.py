"""The common parts of all calls that start and notify workflows: the clients, and how a workflow is started."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy

from infra.settings import Settings
from infra.temporal.reachability import CALL, Reachability

A = TypeVar("A")


class TemporalCalls(Reachability):
    """The clients of Temporal.

    `untraced` is the same client without tracing: a node's workflow lives for months, and all its steps would join the
    trace of the request that happened to start it.
    """

    def __init__(self, client: Client, settings: Settings) -> None:
        super().__init__(client)
        config = client.config()
        config["interceptors"] = []
        self.untraced = Client(**config)
        self._settings = settings

    async def _begin(
        self, client: Client, run: Callable[[Any, A], Awaitable[Any]], argument: A, workflow_id: str, **options: Any
    ) -> None:
        """Start a workflow if it does not run. Raises TemporalAway, WorkflowAlreadyStartedError."""
        async with self.reaching():
            await client.start_workflow(
                run,
                argument,
                id=workflow_id,
                task_queue=self._settings.task_queue,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                rpc_timeout=CALL,
                **options,
            )
