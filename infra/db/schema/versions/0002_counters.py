"""Keep the counts of monitoring by triggers: nothing is counted on read"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TASKS = """
CREATE FUNCTION count_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO counters VALUES ('task_status', NEW.status, 1), ('unfinished', NEW.task_type::text, 1);
    ELSIF NEW.status <> OLD.status THEN
        INSERT INTO counters VALUES ('task_status', OLD.status, -1), ('task_status', NEW.status, 1);
        IF NEW.completed_at IS NOT NULL AND OLD.completed_at IS NULL THEN
            INSERT INTO counters VALUES ('unfinished', NEW.task_type::text, -1);
        END IF;
    END IF;
    RETURN NULL;
END $$
"""
GPUS = """
CREATE FUNCTION count_gpus() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.gone_at IS NULL AND (NEW.gone_at IS NOT NULL OR NEW.status <> OLD.status) THEN
        INSERT INTO counters VALUES ('gpu_status', OLD.status, -1);
    END IF;
    IF NEW.gone_at IS NULL AND (TG_OP = 'INSERT' OR OLD.gone_at IS NOT NULL OR NEW.status <> OLD.status) THEN
        INSERT INTO counters VALUES ('gpu_status', NEW.status, 1);
    END IF;
    RETURN NULL;
END $$
"""
ALERTS = """
CREATE FUNCTION count_alerts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO counters VALUES ('alert_level', NEW.level, 1), ('alert_status', NEW.status, 1);
    ELSIF NEW.status <> OLD.status THEN
        INSERT INTO counters VALUES ('alert_status', OLD.status, -1), ('alert_status', NEW.status, 1);
    END IF;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    for function, table in ((TASKS, "tasks"), (GPUS, "gpus"), (ALERTS, "alerts")):
        op.execute(function)
        op.execute(
            f"CREATE TRIGGER count_{table} AFTER INSERT OR UPDATE ON {table}"
            f" FOR EACH ROW EXECUTE FUNCTION count_{table}()"
        )


def downgrade() -> None:
    for table in ("tasks", "gpus", "alerts"):
        op.execute(f"DROP TRIGGER count_{table} ON {table}")
        op.execute(f"DROP FUNCTION count_{table}()")
