"""Know who listens and what a node's workflow has seen; count alerts by level and status together"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ALERTS = """
CREATE OR REPLACE FUNCTION count_alerts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO counter_deltas VALUES ('alerts', NEW.level || ' ' || NEW.status, 1);
    ELSIF NEW.status <> OLD.status THEN
        INSERT INTO counter_deltas VALUES ('alerts', NEW.level || ' ' || OLD.status, -1),
                                          ('alerts', NEW.level || ' ' || NEW.status, 1);
    END IF;
    RETURN NULL;
END $$
"""
RECOUNT = """
INSERT INTO counters SELECT 'alerts', level || ' ' || status, count(*) FROM alerts GROUP BY level, status
"""


def upgrade() -> None:
    op.add_column(
        "instances",
        sa.Column(
            "listening_since",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
    )
    op.add_column("gpus", sa.Column("attended_epoch", sa.BigInteger()))
    op.add_column("gpus", sa.Column("attended_status", sa.Text()))
    op.create_index("ix_tasks_ended", "tasks", ["completed_at"], postgresql_where="completed_at IS NOT NULL")
    op.execute("DELETE FROM counters WHERE counter IN ('alert_level', 'alert_status')")
    op.execute("DELETE FROM counter_deltas WHERE counter IN ('alert_level', 'alert_status')")
    op.execute(ALERTS)
    op.execute(RECOUNT)


def downgrade() -> None:
    raise NotImplementedError("restore the backup taken before the upgrade")
