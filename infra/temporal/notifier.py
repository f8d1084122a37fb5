"""Notifying workflows of what a committed transaction has changed: in the background, grants first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from infra.temporal.access import NoSuchWorkflow
from workflows.messages import NodeSignal
from workflows.notifications import Granted, Notifications

log = logging.getLogger(__name__)

LAST_WORDS_S = 1.0

Call = Coroutine[Any, Any, None]


class Gateway(Protocol):
    """The calls to Temporal that notifications need. Each may raise NoSuchWorkflow, TemporalAway."""

    async def grant(self, one: Granted) -> None: ...
    async def settled(self, task_id: str, attempt: int) -> None: ...
    async def signal_node(self, gpu_id: str, name: str, signal: NodeSignal) -> None: ...
    async def end(self, task_id: str) -> None: ...


class Notifier:
    """Sends notifications. The reconciler repeats one that fails."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._under_way: set[asyncio.Task[None]] = set()

    async def send(self, notifications: Notifications, *, but: str | None = None) -> None:
        """Send them without keeping the caller waiting: the first ones are under way when this returns.

        The others follow the grants, because a slot is idle until its new task is dispatched. The task `but` is left
        out: it knows already.
        """
        if not notifications:
            return
        grants = [asyncio.create_task(_tried(self._gateway.grant(one))) for one in notifications.grants]
        others = asyncio.create_task(self._send_others(notifications, but, grants))
        self._under_way.add(others)
        others.add_done_callback(self._under_way.discard)
        await asyncio.sleep(0)

    async def _send_others(
        self, notifications: Notifications, but: str | None, grants: list[asyncio.Task[None]]
    ) -> None:
        await asyncio.gather(*grants)
        gateway = self._gateway
        closed = (gateway.settled(one.task_id, one.attempt) for one in notifications.closed if one.task_id != but)
        nodes = (gateway.signal_node(one.gpu_id, one.signal, NodeSignal(one.epoch)) for one in notifications.nodes)
        ended = (gateway.end(task_id) for task_id in notifications.ended)
        await asyncio.gather(*map(_tried, (*closed, *nodes, *ended)))

    async def close(self) -> None:
        """Give calls in flight a moment to end."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=LAST_WORDS_S)


async def _tried(call: Call) -> None:
    try:
        await call
    except NoSuchWorkflow:
        log.debug("a notification found no workflow: one that starts later reads the row")
    except Exception as error:  # noqa: BLE001
        log.warning("a notification was not delivered, the reconciler will repeat it: %s", error)
