"""The calls of Temporal: how a workflow is started, the deadline of each call, and a circuit breaker that a ping
closes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from infra.resilience.circuit_breaker import CircuitBreaker
from infra.settings import Settings
from infra.temporal.access import NoSuchWorkflow, TemporalAway, is_away

A = TypeVar("A")

CALL = timedelta(seconds=2)
"""How long a request waits for Temporal; the reconciler comes after it."""
PAUSE_S, FAILURES = 1.0, 3
"""After `FAILURES` calls in a row without an answer Temporal counts as away, until a ping is answered; one is sent per
`PAUSE_S` seconds."""


class TemporalCalls:
    """The clients of Temporal, with each call within `reaching()`.

    `untraced` is the same client without tracing: a node's workflow lives for months, and all its steps would join the
    trace of the request that happened to start it.
    """

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client = client
        self.untraced = Client(**client.config() | {"interceptors": []})
        self._settings = settings
        self._circuit = CircuitBreaker(pause_s=PAUSE_S, after=FAILURES)
        self._probing: asyncio.Task[None] | None = None

    @property
    def away(self) -> bool:
        """Whether Temporal has not answered lately."""
        return self._circuit.is_open

    @asynccontextmanager
    async def reaching(self) -> AsyncIterator[None]:
        """A context for one call. Raises TemporalAway, NoSuchWorkflow instead of the client's errors.

        The client's own limit, `rpc_timeout`, is one for each of the tries that it makes: where nothing listens they
        take 10 s.
        """
        if self._circuit.is_open:
            raise TemporalAway("it has not answered lately")
        try:
            async with asyncio.timeout(CALL.total_seconds()):
                yield
        except TimeoutError as error:
            self._missed()
            raise TemporalAway(f"no answer within {CALL.total_seconds():g} s") from error
        except (RPCError, RuntimeError) as error:
            if is_away(error):
                self._missed()
            else:
                self._circuit.answered()
            if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
                raise NoSuchWorkflow(error.message) from error
            raise TemporalAway(str(error)) from error
        self._circuit.answered()

    async def ping(self) -> None:
        """Raise RPCError or RuntimeError unless Temporal answers."""
        await self.client.service_client.check_health(timeout=CALL)
        self._circuit.answered()

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

    def _missed(self) -> None:
        self._circuit.failed()
        if self._circuit.is_open and (self._probing is None or self._probing.done()):
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        """Ping until it answers."""
        while self._circuit.is_open:
            await asyncio.sleep(PAUSE_S)
            with suppress(RPCError, RuntimeError):
                await self.ping()
