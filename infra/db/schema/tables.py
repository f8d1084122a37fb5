"""The schema. The migrations build it; `alembic check` in the tests compares the two.

Every time is the database's own clock (`clock_timestamp()`), so that rows written by different processes compare. Rules
that must hold at any moment are constraints here, not code elsewhere.
"""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from infra.db import holding
from workflows.domain.alert import AlertLevel, AlertStatus
from workflows.domain.attempt import COMPARED, Outcome
from workflows.domain.gpu import GpuStatus, PriorityQueue
from workflows.domain.operation import Kind, State
from workflows.domain.role import Role
from workflows.domain.task import TERMINAL, TaskStatus

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_now = func.clock_timestamp()
_timestamp = DateTime(timezone=True)


def _one_of(column: str, values: object) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)  # type: ignore[attr-defined]
    return CheckConstraint(f"{column} IN ({listed})", name=column)


tasks = Table(
    "tasks",
    metadata,
    Column("task_id", Text, primary_key=True),
    Column("display_id", BigInteger, Identity(always=True, start=1001), nullable=False, unique=True),
    Column("task_type", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("app", Text, nullable=False),
    Column("priority", BigInteger, nullable=False),
    Column("env", Text),
    Column("payload", Text, nullable=False),
    Column("timeout_ms", BigInteger, nullable=False),
    Column("max_retries", Integer, nullable=False),
    Column("retry_count", Integer, nullable=False, server_default=text("0")),
    Column("error_message", Text),
    Column("gpu_id", Text),  # the node of the current or last attempt; null while QUEUED
    Column("estimated_wait_s", BigInteger, nullable=False, server_default=text("0")),  # -1: unknown
    Column("created_at", _timestamp, nullable=False, server_default=_now),
    Column("started_at", _timestamp),
    Column("completed_at", _timestamp),
    Column("updated_at", _timestamp, nullable=False, server_default=_now),
    # the queue
    Column("queue_class", SmallInteger, nullable=False),  # 1 VIP, 0 NORMAL; a larger one goes first
    Column("queue_rank", Float, nullable=False),  # virtual start time within the class
    Column("waiting_since", _timestamp),  # set exactly while a free slot may be handed to it
    Column("promoted_at", _timestamp),  # NORMAL work that waited too long and so went over to the VIP class
    Column("flow", Text),  # whose share of its class it takes; null: its app's (workflows.domain.shares)
    Column("failed_on", ARRAY(Text), nullable=False, server_default=text("'{}'")),  # nodes to avoid
    Column("barred_on", ARRAY(Text), nullable=False, server_default=text("'{}'")),  # not while another could take it
    # bookkeeping
    Column("attempts", Integer, nullable=False, server_default=text("0")),  # the number of the last attempt
    Column("event_seq", Integer, nullable=False, server_default=text("0")),
    Column("engine_started_at", _timestamp),  # read only by the version before
    Column("traceparent", Text),
    Column("lineage", Text),  # of the API key that created it
    Column("idempotency_key", Text),
    Column("request_hash", Text),
    # what a caller may do with it
    Column("end_reason", Text),  # why it has ended, where the status alone does not say
    Column("expires_at", _timestamp),  # not started by then, it ends
    Column("deadline", _timestamp),  # it ends by then
    Column("group_id", Text),
    Column("retry_of", Text),  # the task that this one repeats
    Column("webhook", Text),  # a URL that gets its end
    Column("webhook_id", Text),  # whose secret signs that
    Column("purged_at", _timestamp),  # when its payload and result were forgotten
    _one_of("status", TaskStatus),
    CheckConstraint(
        "end_reason IS NULL OR status = 'FAILED' AND end_reason IN ('REJECTED', 'POISON', 'CANCELLED')"
        " OR status = 'TIMEOUT' AND end_reason IN ('EXPIRED', 'DEADLINE')",
        name="ends_as",
    ),
    CheckConstraint(
        "(completed_at IS NOT NULL) = (status IN ({}))".format(", ".join(f"'{s}'" for s in sorted(TERMINAL))),
        name="completed_iff_terminal",
    ),
    CheckConstraint("started_at IS NULL OR started_at >= created_at", name="starts_after_creation"),
    CheckConstraint("waiting_since IS NULL OR status = 'QUEUED'", name="waits_only_queued"),
    Index(
        "uq_tasks_idempotency",
        "lineage",
        "idempotency_key",
        unique=True,
        postgresql_where="idempotency_key IS NOT NULL",
    ),
    Index(
        "ix_tasks_queue",
        "task_type",
        text("queue_class DESC"),
        "queue_rank",
        "display_id",
        postgresql_where="waiting_since IS NOT NULL",
    ),
    Index(  # read only by the version before
        "ix_tasks_flow",
        "task_type",
        "queue_class",
        "app",
        "queue_rank",
        postgresql_where="waiting_since IS NOT NULL AND promoted_at IS NULL",
    ),
    Index(
        "ix_tasks_share",
        "task_type",
        "queue_class",
        text("(COALESCE(flow, 'app:' || app))"),
        "queue_rank",
        postgresql_where="waiting_since IS NOT NULL AND promoted_at IS NULL",
    ),
    Index("ix_tasks_aging", "waiting_since", postgresql_where="waiting_since IS NOT NULL AND queue_class = 0"),
    Index("ix_tasks_durations", "task_type", "completed_at", postgresql_where="status = 'COMPLETED'"),
    Index("ix_tasks_ended", "completed_at", postgresql_where="completed_at IS NOT NULL"),
    Index("ix_tasks_unpurged", "completed_at", postgresql_where="completed_at IS NOT NULL AND purged_at IS NULL"),
    # read only by the version before
    Index("ix_tasks_not_started", "created_at", postgresql_where="engine_started_at IS NULL"),
    Index("ix_tasks_idle", "updated_at", postgresql_where="status = 'QUEUED' AND waiting_since IS NULL"),
    Index("ix_tasks_status", "status", "display_id"),
    Index("ix_tasks_expiry", "expires_at", postgresql_where="status = 'QUEUED' AND expires_at IS NOT NULL"),
    Index("ix_tasks_deadline", "deadline", postgresql_where="completed_at IS NULL AND deadline IS NOT NULL"),
    Index("ix_tasks_group", "group_id", "display_id", postgresql_where="group_id IS NOT NULL"),
    Index(
        "ix_tasks_group_queue",
        "group_id",
        "task_type",
        text("queue_class DESC"),
        "queue_rank",
        postgresql_include=["user_id"],
        postgresql_where="group_id IS NOT NULL AND waiting_since IS NOT NULL",
    ),
    Index("ix_tasks_app", "app", "display_id"),
    Index("ix_tasks_created", "created_at"),
    Index("ix_tasks_end_reason", "end_reason", "display_id", postgresql_where="end_reason IS NOT NULL"),
    # For lists by any filters: each type and status is a stretch in the list's order (infra.db.tasks.queries).
    Index("ix_tasks_kind", "task_type", "status", "display_id"),
    Index("ix_tasks_gpu_kind", "gpu_id", "task_type", "status", "display_id", postgresql_include=["user_id"]),
    Index("ix_tasks_user_kind", "user_id", "task_type", "status", "display_id", postgresql_include=["gpu_id"]),
)

outbox = Table(
    "outbox",
    metadata,
    # apart from tasks: a writer must not lock the row of a waiting task, which an assignment would then skip
    Column("task_id", Text, primary_key=True),  # of a task whose workflow is to be started
    Column("created_at", _timestamp, nullable=False, server_default=_now),
)

outbox_ends = Table(
    "outbox_ends",
    metadata,
    Column("task_id", Text, primary_key=True),  # ended from outside of its workflow, which is to be notified
    Column("ended_at", _timestamp, nullable=False, server_default=_now),
)

first_looks = Table(  # used by the version before alone
    "first_looks",
    metadata,
    Column("task_id", Text, primary_key=True),
    Column("due_at", _timestamp, nullable=False),
)

operations = Table(
    "operations",
    metadata,
    Column("operation_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("filter", JSONB, nullable=False),  # infra.db.tasks.filters
    Column("reason", Text),  # of a cancel
    # who asked for it, as they were then
    Column("key_id", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("lineage", Text, nullable=False),
    Column("grants", JSONB, nullable=False),
    Column("idempotency_key", Text),
    Column("request_hash", Text, nullable=False),
    Column("asked_at", _timestamp, nullable=False),
    Column("bound", BigInteger, nullable=False),  # the greatest display_id then: later tasks are not hit
    # how far it is
    Column("matched", BigInteger, nullable=False),
    Column("done", BigInteger, nullable=False, server_default=text("0")),
    Column("failed", BigInteger, nullable=False, server_default=text("0")),
    Column("cursor", BigInteger, nullable=False, server_default=text("0")),  # a display_id: up to it all had their turn
    Column("state", Text, nullable=False),
    Column("updated_at", _timestamp, nullable=False, server_default=_now),
    Column("completed_at", _timestamp),
    _one_of("kind", Kind),
    _one_of("state", State),
    CheckConstraint("(completed_at IS NOT NULL) = (state = 'DONE')", name="completed_iff_done"),
    Index(
        "uq_operations_idempotency",
        "lineage",
        "idempotency_key",
        unique=True,
        postgresql_where="idempotency_key IS NOT NULL",
    ),
    Index("ix_operations_running", "updated_at", postgresql_where="state = 'RUNNING'"),
    Index("ix_operations_ended", "completed_at", postgresql_where="completed_at IS NOT NULL"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("task_id", Text, ForeignKey("tasks.task_id"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("gpu_id", Text, nullable=False),
    Column("gpu_epoch", BigInteger, nullable=False),
    Column("slot", Integer, nullable=False),  # 1 … maxConcurrentTasks
    Column("token", Text, nullable=False, unique=True),
    Column("ip", Text, nullable=False),
    Column("port", Integer, nullable=False),
    Column("claimed_at", _timestamp, nullable=False, server_default=_now),
    Column("accepted_at", _timestamp),
    Column("watched_by", Text),  # not used any more: for the version before; a later revision drops it
    Column("progress", SmallInteger),
    Column("progress_at", _timestamp),
    Column("closed_at", _timestamp),
    Column("outcome", Text),
    Column("reason", Text),
    Column("blamed", Boolean, nullable=False, server_default=text("false")),  # a failure that counts against its node
    Column("collected_at", _timestamp),  # null on a closed attempt: its workflow has not taken note yet
    Column("released_at", _timestamp),  # null on a closed attempt: its node may still run it, so the slot is held
    _one_of("outcome", Outcome),
    CheckConstraint("(closed_at IS NULL) = (outcome IS NULL)", name="closed_with_outcome"),
    CheckConstraint("progress BETWEEN 0 AND 100", name="progress_percent"),
    Index("uq_attempts_open_task", "task_id", unique=True, postgresql_where="closed_at IS NULL"),
    # not unique: the version before closes without releasing, and claims the slot again
    Index("ix_attempts_unreleased", "gpu_id", postgresql_where="released_at IS NULL"),
    Index("uq_attempts_open_slot", "gpu_id", "slot", unique=True, postgresql_where="closed_at IS NULL"),
    Index("uq_attempts_success", "task_id", unique=True, postgresql_where="outcome = 'SUCCEEDED'"),
    Index(
        "ix_attempts_compared",
        "gpu_id",
        "closed_at",
        postgresql_where="outcome IN ({})".format(", ".join(f"'{one}'" for one in Outcome if one in COMPARED)),
    ),
    Index(
        "ix_attempts_not_compared",
        "gpu_id",
        "closed_at",
        postgresql_where="outcome NOT IN ({})".format(", ".join(f"'{one}'" for one in sorted(COMPARED))),
    ),
    Index(
        "ix_attempts_failed",
        "closed_at",
        postgresql_where="outcome IN ({})".format(
            ", ".join(f"'{one}'" for one in Outcome if one in COMPARED and one is not Outcome.SUCCEEDED)
        ),
    ),
    Index(  # read only by the version before
        "ix_attempts_ended",
        "gpu_id",
        "closed_at",
        postgresql_where="outcome IN ('SUCCEEDED', 'FAILED', 'TIMED_OUT')",
    ),
    Index("ix_attempts_unconfirmed", "gpu_id", "closed_at", postgresql_where=holding.IS_UNCONFIRMED),
    Index("ix_attempts_uncollected", "closed_at", postgresql_where="closed_at IS NOT NULL AND collected_at IS NULL"),
)

task_results = Table(
    "task_results",
    metadata,
    Column("task_id", Text, primary_key=True),  # one accepted result per task
    Column("attempt", Integer, nullable=False),
    Column("gpu_id", Text, nullable=False),
    Column("result", Text, nullable=False),  # JSON text, as the node sent it
    Column("received_at", _timestamp, nullable=False, server_default=_now),
    ForeignKeyConstraint(["task_id", "attempt"], ["attempts.task_id", "attempts.attempt"]),
)

late_reports = Table(
    "late_reports",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("task_id", Text, ForeignKey("tasks.task_id"), nullable=False, index=True),
    Column("attempt", Integer),
    Column("kind", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("received_at", _timestamp, nullable=False, server_default=_now),
)

task_events = Table(
    "task_events",
    metadata,
    Column("task_id", Text, ForeignKey("tasks.task_id"), primary_key=True),
    Column("seq", Integer, primary_key=True),  # 1, 2, 3 … without a gap
    Column("from_status", Text),
    Column("to_status", Text, nullable=False),
    Column("attempt", Integer),
    Column("gpu_id", Text),
    Column("actor", Text, nullable=False),
    Column("reason", Text),
    Column("at", _timestamp, nullable=False, server_default=_now),
)

event_log = Table(
    "event_log",
    metadata,
    # Triggers write here (migrations 0034 and 0035), readers in the order of the primary key: infra.db.ops.event_log
    Column("xid", BigInteger, primary_key=True),  # `event_stamp()`
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("type", Text, nullable=False),
    Column("at", _timestamp, nullable=False, server_default=_now),
    Column("task_id", Text),
    Column("gpu_id", Text),
    Column("alert_id", Text),
    Column("user_id", Text),  # the owner of the task
    Column("lineage", Text),  # of the key that created it for somebody else
    Column("data", JSONB, nullable=False),
    Index("ix_event_log_type", "type", "xid", "id"),
    Index("ix_event_log_user_id", "user_id", "type", "xid", "id", postgresql_where="user_id IS NOT NULL"),
    Index("ix_event_log_lineage", "lineage", "type", "xid", "id", postgresql_where="lineage IS NOT NULL"),
    Index("ix_event_log_task", "task_id", "xid", "id", postgresql_where="task_id IS NOT NULL"),
)

event_log_state = Table(
    "event_log_state",
    metadata,
    # one row
    Column("epoch", Text, primary_key=True, server_default=text("gen_random_uuid()::text")),  # cursors belong to it
    Column("cut_xid", BigInteger, nullable=False, server_default=text("0")),  # what is kept comes after this place
    Column("cut_id", BigInteger, nullable=False, server_default=text("0")),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("webhook_id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("lineage", Text, nullable=False),  # of the key that made it
    Column("sees_all", Boolean, nullable=False),  # of all tasks, nodes and alerts; else of the owner's tasks
    Column("url", Text),  # null: the secret for the `webhook` of the owner's tasks
    Column("events", ARRAY(Text), nullable=False),
    Column("description", Text),
    Column("state", Text, nullable=False, server_default=text("'ACTIVE'")),
    Column("disabled_because", Text),
    Column("created_at", _timestamp, nullable=False, server_default=_now),
    Column("look_after", _timestamp),  # until then the leader takes it as attended
    CheckConstraint("state IN ('ACTIVE', 'DISABLED', 'DELETED')", name="state"),
    Index("ix_webhooks_owner", "owner"),
    Index("ix_webhooks_lineage", "lineage"),
    Index("ix_webhooks_all", "webhook_id", postgresql_where="state = 'ACTIVE' AND url IS NOT NULL AND sees_all"),
    Index("uq_webhooks_of_tasks", "owner", unique=True, postgresql_where="url IS NULL AND state <> 'DELETED'"),
)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    # apart from webhooks, so that no list reads them; in plain text, since they sign (docs/adr)
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("webhook_id", Text, nullable=False, index=True),
    Column("secret", Text, nullable=False),
    Column("created_at", _timestamp, nullable=False, server_default=_now),
    Column("expires_at", _timestamp),  # it has a successor
)

deliveries = Table(
    "deliveries",
    metadata,
    # a trigger writes them with the event (migration 0041)
    Column("delivery_id", BigInteger, Identity(always=True), primary_key=True),
    Column("webhook_id", Text, nullable=False),
    Column("event_xid", BigInteger),  # the event's place in the log; null: of none
    Column("event_no", BigInteger),
    Column("event_id", Text),  # its public id, kept with the body
    Column("task_id", Text),
    Column("url", Text),  # null: the webhook's
    Column("body", LargeBinary),  # written with the first try
    Column("state", Text, nullable=False, server_default=text("'PENDING'")),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("next_try_at", _timestamp),
    Column("created_at", _timestamp, nullable=False, server_default=_now),
    CheckConstraint("state IN ('PENDING', 'DELIVERED', 'DEAD')", name="state"),
    CheckConstraint("(next_try_at IS NOT NULL) = (state = 'PENDING')", name="is_due"),
    Index("ix_deliveries_due", "webhook_id", "next_try_at", postgresql_where="state = 'PENDING'"),
    Index("ix_deliveries_webhook", "webhook_id", "created_at", "delivery_id"),
    Index("ix_deliveries_task", "task_id", postgresql_where="task_id IS NOT NULL"),
)

gpus = Table(
    "gpus",
    metadata,
    Column("gpu_id", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),  # raised by each registration
    Column("status", Text, nullable=False),
    Column("hostname", Text, nullable=False),
    Column("vast_ins_id", Text),
    Column("ip", Text, nullable=False),
    Column("port", Integer, nullable=False),
    Column("task_types", ARRAY(BigInteger), nullable=False),
    Column("priority_queue", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("max_concurrent_tasks", Integer, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("dispatch_secret", Text),
    Column("lineage", Text),  # of the node's key that the gpuId belongs to; null: no node's key has it
    Column("failure_count", Integer, nullable=False, server_default=text("0")),
    Column("task_failure_count", Integer, nullable=False, server_default=text("0")),
    Column("fault_reason", Text),
    Column("not_before", _timestamp),  # it rests: no dispatch until then
    # with the two counts above its `NodeRecord`
    Column("failed_tasks", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("failed_flow", Text),
    Column("rests", Integer, nullable=False, server_default=text("0")),
    Column("hand_backs", Integer, nullable=False, server_default=text("0")),
    Column("registered_at", _timestamp, nullable=False, server_default=_now),
    Column("status_since", _timestamp, nullable=False, server_default=_now),
    Column(
        "judged_since", _timestamp, nullable=False, server_default=_now
    ),  # recovered or new: what was before is past
    Column("gone_at", _timestamp),  # deregistered; the row keeps the epoch
    Column("drained_at", _timestamp),  # it gets no new attempt since then; null: it does not drain
    Column("drained_by", Text),
    Column("drain_reason", Text),
    Column("drain_deadline", _timestamp),  # what still runs then is handed back
    Column("attended_epoch", BigInteger),  # what its workflow has seen last
    Column("attended_status", Text),
    _one_of("status", GpuStatus),
    _one_of("priority_queue", PriorityQueue),
    CheckConstraint("max_concurrent_tasks >= 1", name="has_a_slot"),
    Index("ix_gpus_task_types", "task_types", postgresql_using="gin"),
    Index("ix_gpus_draining", "drain_deadline", postgresql_where="drained_at IS NOT NULL"),
)

gpu_beats = Table(
    "gpu_beats",
    metadata,
    # apart from gpus: a beat must never wait for, or be skipped by, a claim that holds the node's row
    Column("gpu_id", Text, primary_key=True),
    Column("at", _timestamp, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("dedupe_key", Text, nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("level", Text, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'ACTIVE'")),
    Column("source", Text, nullable=False),
    Column("raised_at", _timestamp, nullable=False, server_default=_now),
    Column("acknowledged_at", _timestamp),
    Column("acknowledged_by", Text),
    Column("cause", Text),  # what it is about: one alert of a cause is ACTIVE at most
    Column("count", BigInteger, nullable=False, server_default=text("1")),  # how often it has happened
    Column("resolved_at", _timestamp),  # when what it is about was over
    _one_of("level", AlertLevel),
    _one_of("status", AlertStatus),
    CheckConstraint(
        "(acknowledged_at IS NULL) = (acknowledged_by IS NULL) AND (acknowledged_at IS NULL) = (status = 'ACTIVE')",
        name="acknowledged_whole",
    ),
    Index("ix_alerts_level", "level", "seq"),
    Index("ix_alerts_status", "status", "seq"),
    Index("ix_alerts_cause", "cause", "seq"),
    Index("ix_alerts_unresolved", "cause", postgresql_where="resolved_at IS NULL"),
)

instances = Table(
    "instances",
    metadata,
    Column("instance_id", Text, primary_key=True),
    Column("number", BigInteger, Identity(always=True), nullable=False),
    Column("kind", Text, nullable=False),  # api or worker
    Column("hostname", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_at", _timestamp, nullable=False, server_default=_now),
    Column("last_beat", _timestamp, nullable=False, server_default=_now),
    Column("listening_since", _timestamp, nullable=False, server_default=_now),  # hears the nodes' beats since then
    Column("cpu_usage", Float, nullable=False, server_default=text("0")),  # percent
    Column("memory_usage", Float, nullable=False, server_default=text("0")),
    Column("disk_usage", Float, nullable=False, server_default=text("0")),
)

leader_lease = Table(
    "leader_lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", _timestamp, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("key_hash", Text, nullable=False, unique=True),  # SHA-256 of 32 random bytes: no salt is needed
    Column("role", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("lineage", Text, nullable=False),  # the id of the first key of those that came from it by rotation
    Column("acts_for_others", Boolean, nullable=False, server_default=text("false")),  # creates for any userId
    Column("note", Text),
    Column("created_at", _timestamp, nullable=False, server_default=_now),
    Column("expires_at", _timestamp),
    Column("revoked_at", _timestamp),
    Column("revoked_by", Text),
    _one_of("role", Role),
    Index("ix_api_keys_lineage", "lineage"),
)

key_grants = Table(
    "key_grants",
    metadata,
    # apart from api_keys: whichever version of the program rotates a key, its successor has the same
    Column("lineage", Text, primary_key=True),
    Column("grants", JSON, nullable=False),  # workflows.domain.grants
)

console_sessions = Table(
    "console_sessions",
    metadata,
    Column("session_hash", Text, primary_key=True),  # SHA-256 of 32 random bytes, as of a key
    Column("key_id", Text, nullable=False),  # it lives no longer than its key
    Column("is_link", Boolean, nullable=False),  # a link begins one session, and is gone then
    Column("created_at", _timestamp, nullable=False, server_default=_now),
    Column("expires_at", _timestamp, nullable=False, index=True),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", _timestamp, nullable=False, server_default=_now),
    Column("key_id", Text),  # null: the command line, or the program itself
    Column("owner", Text, nullable=False),
    Column("role", Text),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),  # the id of what it was done to
    Column("detail", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Index("ix_audit_log_key", "key_id", "id"),
    Index("ix_audit_log_owner", "owner", "id"),
    Index("ix_audit_log_action", "action", "id"),
)

counters = Table(
    "counters",
    metadata,
    # e.g. ('tasks', '2 QUEUED', 15): tasks by type and status; see migrations 0003, 0004 and 0005 for all
    Column("counter", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("n", BigInteger, nullable=False),
)

counter_deltas = Table(
    "counter_deltas",
    metadata,
    # Triggers append here; the leader adds the rows to `counters`. Nothing is locked, nothing is counted on read.
    Column("counter", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("n", BigInteger, nullable=False),
)

monitor_reports = Table(
    "monitor_reports",
    metadata,
    Column("name", Text, primary_key=True),
    Column("body", JSON, nullable=False),
    Column("at", _timestamp, nullable=False, server_default=_now),
)

schema_compatibility = Table(
    "schema_compatibility",
    metadata,
    Column("oldest_program", Text, primary_key=True),  # one row; revision of the oldest program that can run on this
)

__all__ = [
    "alerts",
    "api_keys",
    "attempts",
    "audit_log",
    "console_sessions",
    "counter_deltas",
    "counters",
    "deliveries",
    "event_log",
    "event_log_state",
    "first_looks",
    "gpu_beats",
    "gpus",
    "instances",
    "key_grants",
    "late_reports",
    "leader_lease",
    "metadata",
    "monitor_reports",
    "operations",
    "outbox",
    "schema_compatibility",
    "task_events",
    "task_results",
    "tasks",
    "webhook_secrets",
    "webhooks",
]
