"""Counts follow rows that are deleted."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# The counters of 0005, of many rows at once.
TASKS = """
CREATE FUNCTION uncount_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counter_deltas
    SELECT counter, key, -sum(n)
      FROM (SELECT user_id, gpu_id, task_type || ' ' || status AS key, count(*) AS n FROM gone GROUP BY 1, 2, 3) kinds
     CROSS JOIN LATERAL (
           VALUES ('tasks'), ('user:' || user_id), ('gpu:' || gpu_id),
                  ('user_gpu:' || length(user_id) || ':' || user_id || ' ' || gpu_id)) AS c (counter)
     WHERE counter IS NOT NULL
     GROUP BY counter, key;
    RETURN NULL;
END $$
"""
GPUS = """
CREATE FUNCTION uncount_gpus() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counter_deltas SELECT 'gpus', status, -count(*) FROM gone WHERE gone_at IS NULL GROUP BY status;
    RETURN NULL;
END $$
"""
ALERTS = """
CREATE FUNCTION uncount_alerts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counter_deltas SELECT 'alerts', level || ' ' || status, -count(*) FROM gone GROUP BY level, status;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    for table, function in (("gpus", GPUS), ("alerts", ALERTS), ("tasks", TASKS)):
        op.execute(function)
        op.execute(
            f"CREATE TRIGGER uncount_{table} AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone"
            f" FOR EACH STATEMENT EXECUTE FUNCTION uncount_{table}()"
        )


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
