"""The event log, and the trigger that writes the transitions of tasks to it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

# At least the number of the transaction that writes, so that a reader below `pg_snapshot_xmin` misses nothing; and
# no less than that of any transaction that has ended, so that what follows a commit comes later in the log (ADR 0039).
STAMP = """
CREATE FUNCTION event_stamp() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT GREATEST(pg_current_xact_id()::text::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)
$$
"""
# `lineage` only where the key acted for others: everybody else's tasks are their owner's by `user_id`.
TASKS = """
CREATE FUNCTION log_task_events() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    stamp bigint := event_stamp();
BEGIN
    INSERT INTO event_log (xid, type, at, task_id, gpu_id, user_id, lineage, data)
    SELECT stamp,
           CASE WHEN n.from_status IS NULL THEN 'task.created' WHEN n.to_status = 'PROCESSING' THEN 'task.started'
                WHEN n.to_status = 'QUEUED' THEN 'task.retried' ELSE 'task.ended' END,
           n.at, n.task_id, n.gpu_id, t.user_id, CASE WHEN t.flow IS NULL THEN t.lineage END,
           jsonb_strip_nulls(jsonb_build_object(
               'seq', n.seq, 'status', n.to_status, 'attempt', n.attempt, 'taskType', t.task_type,
               'groupId', t.group_id,
               'endReason', CASE WHEN t.completed_at IS NOT NULL THEN COALESCE(t.end_reason, t.status) END))
      FROM written n JOIN tasks t ON t.task_id = n.task_id
     WHERE n.from_status IS DISTINCT FROM n.to_status
     ORDER BY n.task_id, n.seq;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "event_log",
        sa.Column("xid", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("task_id", sa.Text()),
        sa.Column("gpu_id", sa.Text()),
        sa.Column("alert_id", sa.Text()),
        sa.Column("user_id", sa.Text()),
        sa.Column("lineage", sa.Text()),
        sa.Column("data", JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("xid", "id", name=op.f("pk_event_log")),
    )
    op.create_index("ix_event_log_type", "event_log", ["type", "xid", "id"])
    for column in ("user_id", "lineage"):
        where = f"{column} IS NOT NULL"
        op.create_index(f"ix_event_log_{column}", "event_log", [column, "type", "xid", "id"], postgresql_where=where)
    op.create_index("ix_event_log_task", "event_log", ["task_id", "xid", "id"], postgresql_where="task_id IS NOT NULL")
    op.create_table(
        "event_log_state",
        sa.Column("epoch", sa.Text(), server_default=sa.text("gen_random_uuid()::text"), nullable=False),
        sa.Column("cut_xid", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("cut_id", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("epoch", name=op.f("pk_event_log_state")),
    )
    op.execute("INSERT INTO event_log_state DEFAULT VALUES")
    op.execute(STAMP)
    op.execute(TASKS)
    op.execute(
        "CREATE TRIGGER log_task_events AFTER INSERT ON task_events REFERENCING NEW TABLE AS written"
        " FOR EACH STATEMENT EXECUTE FUNCTION log_task_events()"
    )


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
