"""Write the transitions of nodes and alerts to the event log."""

from __future__ import annotations

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

GPUS = """
CREATE FUNCTION log_node_events() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    registers boolean := TG_OP = 'INSERT' OR NEW.epoch <> OLD.epoch;
    happened text[] := '{}';
BEGIN
    IF registers THEN
        happened := ARRAY['node.registered'];
    ELSIF NEW.status <> OLD.status THEN
        happened := ARRAY[CASE NEW.status WHEN 'OFFLINE' THEN 'node.offline' WHEN 'FAULTY' THEN 'node.faulty'
                          ELSE CASE OLD.status WHEN 'FAULTY' THEN 'node.recovered' ELSE 'node.online' END END];
    END IF;
    IF NEW.drained_at IS NOT NULL AND (TG_OP = 'INSERT' OR OLD.drained_at IS NULL) THEN
        happened := happened || 'node.draining'::text;
    END IF;
    IF NEW.gone_at IS NOT NULL AND (TG_OP = 'INSERT' OR OLD.gone_at IS NULL) THEN
        happened := happened || 'node.gone'::text;
    END IF;
    INSERT INTO event_log (xid, type, gpu_id, data)
    SELECT event_stamp(), type, NEW.gpu_id, jsonb_strip_nulls(jsonb_build_object(
               'status', NEW.status, 'draining', NEW.drained_at IS NOT NULL,
               'reason', left(CASE type WHEN 'node.faulty' THEN NEW.fault_reason
                                        WHEN 'node.draining' THEN NEW.drain_reason END, 500)))
      FROM unnest(happened) WITH ORDINALITY AS h (type, n) ORDER BY n;
    RETURN NULL;
END $$
"""
CHANGED = (
    "NEW.epoch <> OLD.epoch OR NEW.status <> OLD.status OR (NEW.drained_at IS NULL) <> (OLD.drained_at IS NULL)"
    " OR (NEW.gone_at IS NULL) <> (OLD.gone_at IS NULL)"
)
ALERTS = """
CREATE FUNCTION log_alert_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO event_log (xid, type, alert_id, data)
    VALUES (event_stamp(), CASE NEW.status WHEN 'ACTIVE' THEN 'alert.raised' ELSE 'alert.acknowledged' END,
            'alert_' || lpad(NEW.seq::text, GREATEST(3, length(NEW.seq::text)), '0'),
            jsonb_strip_nulls(jsonb_build_object('level', NEW.level, 'title', NEW.title, 'source', NEW.source,
                                                 'acknowledgedBy', NEW.acknowledged_by)));
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    for function, table, when in (
        (GPUS, "gpus", CHANGED),
        (ALERTS, "alerts", "NEW.status <> OLD.status"),
    ):
        op.execute(function)
        name = f"log_{'node' if table == 'gpus' else 'alert'}_events"
        op.execute(f"CREATE TRIGGER {name}_of_new AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()")
        op.execute(
            f"CREATE TRIGGER {name} AFTER UPDATE ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION {name}()"
        )


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
