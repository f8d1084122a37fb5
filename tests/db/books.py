"""A few tasks in every state, on a node of two slots: sound books, in which a test writes its violation."""

from __future__ import annotations

from infra.db.nodes.queries import Registration
from infra.db.ops import alerts, counters
from infra.db.ops.alerts import NewAlert
from infra.db.slots.capacity import Capacity, Nodes
from infra.db.slots.outlook import Outlook
from infra.db.transactions import accept_attempt, claim_slot, collect_attempt, create_task, node_state, settle_attempt
from tests.db.one_connection import OneConnection
from tests.db.rows import CREATOR, new_task
from tests.db.sessions import Session
from workflows.domain.alert import AlertLevel
from workflows.domain.attempt import End, Outcome

EVERYTHING = (
    "tasks, attempts, task_results, late_reports, task_events, gpus, gpu_beats, alerts, counters, counter_deltas,"
    " leader_lease, instances"
)
LONG_AGO = "clock_timestamp() - interval '1 hour'"
AHEAD = "clock_timestamp() + interval '2 hours'"


class Books:
    """A few tasks in every state, written by the product's own functions."""

    def __init__(self, connection: Session) -> None:
        self.connection = connection

    async def write(self) -> None:
        await self.sql(f"TRUNCATE {EVERYTHING}")
        for gpu_id in ("g1", "g2"):
            node = Registration(gpu_id, "h", None, "127.0.0.1", 1, [1], "NORMAL", "1", 2, {}, None, "k")
            await node_state.register(self.connection, node)
        await self.ended("done", Outcome.SUCCEEDED)
        await self.ended("failed", Outcome.FAILED)
        await self.running("running")
        await self.sql("UPDATE gpus SET task_types = '{1, 2}'")
        await self.create("waiting", 3)
        await alerts.raise_alert(self.connection, NewAlert("a", "t", "m", AlertLevel.WARNING, "s"))
        await counters.fold(self.connection)
        await self.sql("INSERT INTO leader_lease VALUES ('leader', 'i', 1, clock_timestamp() + interval '1 h')")
        await self.sql(
            "INSERT INTO instances (instance_id, number, kind, hostname, pid, version, listening_since)"
            f" OVERRIDING SYSTEM VALUE VALUES ('i', 1, 'api', 'h', 1, '1', {LONG_AGO})"
        )

    async def sql(self, *statements: str) -> None:
        for statement in statements:
            await self.connection.execute(statement)

    async def create(self, task_id: str, task_type: int = 1) -> None:
        task = new_task(task_id, task_type, max_retries=0, idempotency_key=task_id, request_hash=task_id)
        capacity = Capacity(Nodes(*[0] * 11), [1], [], 1.0)
        await create_task.create(self.connection, task, Outlook(capacity), weight=1.0, by=CREATOR)

    async def running(self, task_id: str) -> None:
        await self.create(task_id)

        assert (await claim_slot.claim(OneConnection(self.connection).run, task_id)).grant
        assert await accept_attempt.accept(self.connection, task_id, 1, actor="test")

    async def ended(self, task_id: str, outcome: Outcome) -> None:
        await self.running(task_id)
        result = '{"n":1}' if outcome is Outcome.SUCCEEDED else None
        await settle_attempt.settle(self.connection, task_id, 1, End(outcome, "r", result), actor="test")
        await collect_attempt.collect(self.connection, task_id, 1)
