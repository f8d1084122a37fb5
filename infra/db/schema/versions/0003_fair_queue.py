"""A fair queue, durations from the tasks themselves, and counts that cost the same at any size"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# What is counted, as (counter, key): ('tasks', 'TYPE STATUS'), ('gpu:GPU_ID', 'TYPE STATUS'), ('gpus', STATUS),
# ('alert_level', LEVEL), ('alert_status', STATUS).
TASKS = """
CREATE OR REPLACE FUNCTION count_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO counter_deltas VALUES ('tasks', NEW.task_type || ' ' || NEW.status, 1);
        RETURN NULL;
    END IF;
    IF NEW.status <> OLD.status THEN
        INSERT INTO counter_deltas VALUES ('tasks', NEW.task_type || ' ' || OLD.status, -1),
                                          ('tasks', NEW.task_type || ' ' || NEW.status, 1);
    END IF;
    IF NEW.status <> OLD.status OR NEW.gpu_id IS DISTINCT FROM OLD.gpu_id THEN
        INSERT INTO counter_deltas
        SELECT 'gpu:' || gpu_id, NEW.task_type || ' ' || status, n
          FROM (VALUES (OLD.gpu_id, OLD.status, -1), (NEW.gpu_id, NEW.status, 1)) AS moved(gpu_id, status, n)
         WHERE gpu_id IS NOT NULL;
    END IF;
    RETURN NULL;
END $$
"""
GPUS = """
CREATE OR REPLACE FUNCTION count_gpus() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.gone_at IS NULL AND (NEW.gone_at IS NOT NULL OR NEW.status <> OLD.status) THEN
        INSERT INTO counter_deltas VALUES ('gpus', OLD.status, -1);
    END IF;
    IF NEW.gone_at IS NULL AND (TG_OP = 'INSERT' OR OLD.gone_at IS NOT NULL OR NEW.status <> OLD.status) THEN
        INSERT INTO counter_deltas VALUES ('gpus', NEW.status, 1);
    END IF;
    RETURN NULL;
END $$
"""
ALERTS = """
CREATE OR REPLACE FUNCTION count_alerts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO counter_deltas VALUES ('alert_level', NEW.level, 1), ('alert_status', NEW.status, 1);
    ELSIF NEW.status <> OLD.status THEN
        INSERT INTO counter_deltas VALUES ('alert_status', OLD.status, -1), ('alert_status', NEW.status, 1);
    END IF;
    RETURN NULL;
END $$
"""
RECOUNT = """
INSERT INTO counters
SELECT 'tasks', task_type || ' ' || status, count(*) FROM tasks GROUP BY task_type, status
UNION ALL
SELECT 'gpu:' || gpu_id, task_type || ' ' || status, count(*) FROM tasks WHERE gpu_id IS NOT NULL
 GROUP BY gpu_id, task_type, status
UNION ALL SELECT 'gpus', status, count(*) FROM gpus WHERE gone_at IS NULL GROUP BY status
UNION ALL SELECT 'alert_level', level, count(*) FROM alerts GROUP BY level
UNION ALL SELECT 'alert_status', status, count(*) FROM alerts GROUP BY status
"""


def upgrade() -> None:
    op.add_column("tasks", sa.Column("promoted_at", sa.DateTime(timezone=True)))
    op.alter_column("tasks", "queue_rank", server_default=None)
    op.create_index(
        "ix_tasks_flow",
        "tasks",
        ["task_type", "queue_class", "app", "queue_rank"],
        postgresql_where="waiting_since IS NOT NULL AND promoted_at IS NULL",
    )
    op.create_index(
        "ix_tasks_aging",
        "tasks",
        ["waiting_since"],
        postgresql_where="waiting_since IS NOT NULL AND queue_class = 0",
    )
    op.create_index(
        "ix_tasks_durations", "tasks", ["task_type", "completed_at"], postgresql_where="status = 'COMPLETED'"
    )
    op.drop_table("type_durations")
    op.drop_table("counters")
    op.create_table(
        "counters",
        sa.Column("counter", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("counter", "key", name=op.f("pk_counters")),
    )
    op.create_table(
        "counter_deltas",
        sa.Column("counter", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
    )
    op.execute(
        "ALTER TABLE counter_deltas SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000)"
    )
    for statement in (TASKS, GPUS, ALERTS, RECOUNT):
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("restore the backup taken before the upgrade")
