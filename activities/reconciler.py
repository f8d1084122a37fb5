"""Repair of drift between the database and Temporal (docs/architecture.md, "Reconciliation").

The row is the truth about a task, and its workflow is made to follow: it is notified again, or run again if it has
ended, for whatever reason. The row follows only if the workflow has gone further because a write of its own was
lost. Each repair leaves an entry in the task's timeline, written before anything is done. If the task has moved since
the drift was found the entry fails, and nothing is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import TypeVar

from temporalio import activity

from activities.node_answers import ask, end_on_node
from infra.db.connection import Connection
from infra.db.one_by_one import one_by_one
from infra.db.ops import alerts, counters
from infra.db.repair import drift
from infra.db.repair.drift import Drifted, EndedTask, Expired, Held, HeldOnNode, NodeEpoch, NotStarted, Uncollected
from infra.db.session import Database
from infra.db.tasks import outbox, timeline
from infra.db.tasks.transitions import Cause
from infra.db.transactions import accept_attempt, claim_slot, collect_attempt, judge_nodes, settle_attempt
from infra.db.transactions.settle_attempt import Settled, SettleResult
from infra.nodes.client import NodeClient
from infra.settings import Settings
from infra.temporal.access import TemporalAway
from infra.temporal.gateway import TemporalGateway
from infra.temporal.open_workflows import OpenWorkflows, RunStatus
from workflows.domain.attempt import UNSAID, End, Outcome, run_id
from workflows.domain.system_actor import SystemActor
from workflows.domain.task import FAILURE_TYPES, TaskStatus
from workflows.messages import Grant, NodeSignal, TaskInput
from workflows.notifications import Granted

T = TypeVar("T")

AGE_S = 5.0
"""The age in seconds from which a missing step counts as lost; until then it may be on its way."""
SIGNAL_S = 10.0
"""The same for a signal to a running workflow: at first, busy workers are likelier than a lost signal."""
OVERDUE_S = 20.0
"""The same if a node or a timer is involved."""
DELIVERY_S = 60.0
"""The time after which a dispatch without a clear answer has been given up."""
UNHEARD_S = 1800.0
"""How long a first attempt keeps its slot without being accepted. If no worker ran, the node was never asked, so the
failure is not the node's."""
LONGEST_PAUSE_S = 90.0
"""More than the longest backoff between two attempts."""
RETURNED = {RunStatus.COMPLETED: {TaskStatus.COMPLETED}, RunStatus.FAILED: set(FAILURE_TYPES)}
"""The statuses of a task whose workflow has ended by itself."""
ROUND = 300  # unfinished tasks whose workflow is looked up in one run
CLEARED = 5_000  # entries of the outbox that are deleted in one run
AT_ONCE = 16


class Reconciler:
    """Finds and repairs; every row by itself, so that one that can't be repaired now is found again by the next run."""

    def __init__(self, database: Database, temporal: TemporalGateway, nodes: NodeClient, settings: Settings) -> None:
        self._run = database.run
        self._single = database.single
        self._temporal = temporal
        self._workflows = OpenWorkflows(temporal, settings)
        self._nodes = nodes
        self._before: datetime | None = None  # only open workflows started before this are still to be looked at

    async def reconcile(self) -> dict[str, int]:
        """Counts by kind, without the zeros. Raises TemporalAway: without Temporal there is nothing to compare."""
        await self._temporal.ping()
        single = self._single
        repaired: Counter[str] = Counter()
        await single(drift.set_right)
        repaired["started"] = await self._each(self._start, await single(lambda c: drift.not_started(c, AGE_S)))
        repaired["expired"] = await self._each(
            self._expire, await single(lambda c: drift.expired(c, OVERDUE_S, DELIVERY_S, UNHEARD_S))
        )
        repaired["settled"] = await self._each(self._settle, await single(lambda c: drift.uncollected(c, AGE_S)))
        repaired["granted"] = await self._each(self._grant, await single(lambda c: drift.undispatched(c, OVERDUE_S)))
        repaired["queued"] = await self._each(self._queue, await single(lambda c: drift.forgotten(c, LONGEST_PAUSE_S)))
        repaired["restarted"] = await self._each(
            self._restart, await self._run(lambda c: drift.next_round(c, OVERDUE_S, ROUND))
        )
        repaired["ended"] = await self._each(self._end, await self._ended())
        repaired["nodes"] = await self._each(self._attend, await single(lambda c: drift.unattended(c, AGE_S)))
        repaired["unwatched"] = await self._each(self._attend, await self._unwatched())
        repaired["counters"] = await self._recount()
        await single(lambda c: outbox.clear_ended(c, CLEARED))
        return {kind: count for kind, count in repaired.items() if count}

    async def _each(self, repair: Callable[[T], Awaitable[bool]], rows: Iterable[T]) -> int:
        return sum(repaired for _, repaired in await one_by_one(repair, rows, _not_repaired, at_once=AT_ONCE))

    async def _start(self, row: NotStarted) -> bool:
        """Start a workflow whose start was not confirmed. A second start of one that waits has no effect."""
        runs = False
        if row.waits:
            await self._temporal.start_task(TaskInput.of(row, waits=True), row.traceparent)
        else:
            runs = await self._workflows.run_status(row.task_id) is RunStatus.RUNNING
            if not runs and not await self._run_again(row, "工作流尚未启动，由监控启动"):
                return False
        await self._run(lambda c: outbox.clear(c, [row.task_id]))
        return not runs

    async def _expire(self, row: Expired) -> bool:
        """End the lease of an attempt whose time is over and whose workflow has not ended it.

        Its node may have answered a dispatch whose worker has died since, so the node is asked first.
        """
        end = await end_on_node(self._nodes, row.node, run_id(row.task_id, row.attempt)) or _overdue(row)

        async def work(connection: Connection) -> Settled:
            settled = await settle_attempt.settle(
                connection, row.task_id, row.attempt, end, actor=SystemActor.RECONCILER
            )
            if settled.answer is SettleResult.SETTLED:
                await timeline.note(connection, _cause(row, f"{end.reason or '节点已完成'}，由监控结束该次执行"))
            return settled

        settled = await self._run(work)
        await self._temporal.deliver(settled.notifications)
        return settled.answer is SettleResult.SETTLED

    async def _settle(self, row: Uncollected) -> bool:
        """Have a closed attempt collected."""
        status = await self._workflows.run_status(row.task_id)
        if status is RunStatus.RUNNING:
            if row.closed_for_s < SIGNAL_S or not await self._note(row, "再次通知工作流：该次执行已结束"):
                return False
            await self._send_grant(row)  # it may have missed even that
            await self._temporal.settled(row.task_id, row.attempt)
            return True
        if status in RETURNED and await self._collect(row, status):
            return True
        return await self._run_again(row, "工作流已结束而执行结果未被收取，由监控重新运行")

    async def _collect(self, row: Held, reached: RunStatus) -> bool:
        """Write the end that the workflow has reached. Returns False if the row leads to another, or to no end."""

        async def work(connection: Connection) -> None:
            collected = await collect_attempt.collect(
                connection, row.task_id, row.attempt, actor=SystemActor.RECONCILER
            )
            if collected.status not in RETURNED[reached]:
                raise _NotTheEnd

        try:
            await self._run(work)
        except _NotTheEnd:
            return False
        await self._temporal.deliver(await judge_nodes.review(self._run, row.task_id))
        return True

    async def _grant(self, row: HeldOnNode) -> bool:
        """The slot is granted and no node has accepted: the grant was lost, or the acceptance was not written."""
        answer = await ask(self._nodes, row.node, run_id(row.task_id, row.attempt))
        accepted = answer is not None and answer.confirms
        status = await self._workflows.run_status(row.task_id)
        if status is not RunStatus.RUNNING:
            repaired = await self._run_again(row, "工作流未在运行而任务已获得槽位，由监控重新运行")
        else:
            repaired = accepted or await self._note(row, "再次通知工作流：已获得槽位")
            if repaired:
                await self._send_grant(row)
        if accepted:
            await self._run(lambda c: accept_attempt.accept(c, row.task_id, row.attempt, actor=SystemActor.RECONCILER))
        return repaired

    async def _send_grant(self, row: Held) -> None:
        """Send the task's grant once more."""
        await self._temporal.grant(Granted.of(row, Grant(row.attempt, row.gpu_id)))

    async def _queue(self, row: Drifted) -> bool:
        """Search a slot for a task that neither waits nor runs: its own search was lost."""
        if await self._workflows.run_status(row.task_id) is not RunStatus.RUNNING:
            return await self._run_again(row, "工作流未在运行而任务仍在排队，由监控重新运行")
        if not await self._note(row, "任务既未等待也未执行，由监控重新排队"):
            return False
        found = await claim_slot.claim(self._run, row.task_id)
        await self._temporal.deliver(found.notifications(row))
        return True

    async def _restart(self, row: Drifted) -> bool:
        """Run the workflow of an unfinished task if it does not run."""
        if await self._workflows.run_status(row.task_id) is RunStatus.RUNNING:
            return False
        return await self._run_again(row, "工作流已结束而任务尚未结束，由监控重新运行")

    async def _ended(self) -> list[EndedTask]:
        """Tasks that have ended, of the next `ROUND` open workflows, the latest first."""
        try:
            opened = await self._workflows.of_tasks(self._before, ROUND)
        except TemporalAway as error:  # the other repairs do not need the list
            activity.logger.warning("open workflows could not be listed: %s", error)
            return []
        self._before = opened[-1].started_at if len(opened) == ROUND else None
        return await self._single(lambda c: drift.ended(c, [one.task_id for one in opened], OVERDUE_S))

    async def _end(self, row: EndedTask) -> bool:
        """End a workflow that runs although its row is terminal; one that is idle has missed the end."""
        if not await self._workflows.is_idle(row.task_id):
            return False
        await self._temporal.end(row.task_id)
        return True

    async def _attend(self, row: NodeEpoch) -> bool:
        await self._temporal.signal_node(row.gpu_id, "fault", NodeSignal(row.epoch))
        return True

    async def _unwatched(self) -> list[NodeEpoch]:
        """Nodes whose workflow does not run: a person has ended it, so it would take no more commands."""
        try:
            watched = await self._workflows.of_nodes()
        except TemporalAway as error:
            activity.logger.warning("the nodes' workflows could not be listed: %s", error)
            return []
        registered = await self._single(lambda c: drift.registered(c, AGE_S))
        return [row for row in registered if row.gpu_id not in watched]

    async def _recount(self) -> int:
        """Correct the kept counts. Returns the number of wrong ones."""
        if not await self._single(counters.recount_is_due):
            return 0

        async def work(connection: Connection) -> list[str]:
            wrong = await counters.recount(connection)
            if wrong:
                await alerts.raise_alert(connection, alerts.miscounted(wrong))
            return wrong

        try:
            wrong = await self._run(work, within_s=counters.RECOUNT_LIMIT_S + AGE_S)
        except Exception as error:  # noqa: BLE001  the other repairs must not fail with it
            activity.logger.warning("the counts could not be compared with the rows: %s", error)
            await self._run(counters.recount_later)
            return 0
        if wrong:
            activity.logger.warning("counts were off and are corrected: %s", ", ".join(wrong))
        return len(wrong)

    async def _run_again(self, row: Drifted, why: str) -> bool:
        """Start a new run, which reads the row and goes on from there."""
        if not await self._note(row, why):
            return False
        await self._temporal.start_task(TaskInput.of(row), row.traceparent, again=True)
        return True

    async def _note(self, row: Drifted, reason: str) -> bool:
        """Note a repair. Returns False if the task has moved since it was found: then there is nothing to repair."""
        return await self._run(lambda c: timeline.note(c, _cause(row, reason), row.event_seq))


def _not_repaired(_: object, error: Exception) -> None:
    activity.logger.warning("could not be repaired now: %s", error)  # the next run finds it again


def _overdue(row: Expired) -> End:
    outcome = Outcome.UNREACHABLE if row.accepted_at is None else Outcome.TIMED_OUT
    return End(outcome, UNSAID[outcome])


class _NotTheEnd(Exception):
    """Rolls the transaction back."""


def _cause(row: Drifted, reason: str) -> Cause:
    return Cause(row.task_id, row.attempt, row.gpu_id, SystemActor.RECONCILER, reason)
