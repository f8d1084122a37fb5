"""When what an alert is about was over, and the event that says so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

LOG = """
CREATE OR REPLACE FUNCTION log_alert_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO event_log (xid, type, alert_id, data)
    VALUES (event_stamp(),
            CASE WHEN TG_OP = 'INSERT' THEN 'alert.raised' WHEN NEW.status <> OLD.status THEN 'alert.acknowledged'
                 WHEN NEW.resolved_at IS NULL THEN 'alert.raised' ELSE 'alert.resolved' END,
            'alert_' || lpad(NEW.seq::text, GREATEST(3, length(NEW.seq::text)), '0'),
            jsonb_strip_nulls(jsonb_build_object('level', NEW.level, 'title', NEW.title, 'source', NEW.source,
                                                 'acknowledgedBy', NEW.acknowledged_by)));
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.add_column("alerts", sa.Column("resolved_at", sa.DateTime(timezone=True)))
    # Whoever has acknowledged one knows of it. What is still ACTIVE and over is found by the leader.
    op.execute("UPDATE alerts SET resolved_at = COALESCE(acknowledged_at, raised_at) WHERE status <> 'ACTIVE'")
    op.create_index("ix_alerts_unresolved", "alerts", ["cause"], postgresql_where="resolved_at IS NULL")
    op.execute(LOG)
    op.execute(
        "CREATE TRIGGER log_alert_ends AFTER UPDATE ON alerts FOR EACH ROW"
        " WHEN (NEW.status = OLD.status AND (NEW.resolved_at IS NULL) <> (OLD.resolved_at IS NULL))"
        " EXECUTE FUNCTION log_alert_events()"
    )


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
