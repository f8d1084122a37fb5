"""Webhooks, their secrets, their deliveries, and the trigger that writes a delivery with its event."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

_now = sa.text("clock_timestamp()")
_timestamp = sa.DateTime(timezone=True)

# One look at a small table where there is no webhook.
ADD_DELIVERIES = """
CREATE FUNCTION add_deliveries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM webhooks WHERE state = 'ACTIVE') THEN
        RETURN NULL;
    END IF;
    INSERT INTO deliveries (webhook_id, event_xid, event_no, task_id, next_try_at)
    SELECT w.webhook_id, n.xid, n.id, n.task_id, clock_timestamp()
      FROM logged n CROSS JOIN LATERAL (
           SELECT webhook_id, events FROM webhooks WHERE state = 'ACTIVE' AND url IS NOT NULL AND sees_all
           UNION ALL
           SELECT webhook_id, events FROM webhooks
            WHERE state = 'ACTIVE' AND url IS NOT NULL AND NOT sees_all AND owner = n.user_id
           UNION ALL
           SELECT webhook_id, events FROM webhooks
            WHERE state = 'ACTIVE' AND url IS NOT NULL AND NOT sees_all AND lineage = n.lineage
              AND owner IS DISTINCT FROM n.user_id) w
     WHERE n.type = ANY (w.events)
     ORDER BY n.xid, n.id;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("webhook_id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("lineage", sa.Text, nullable=False),
        sa.Column("sees_all", sa.Boolean, nullable=False),
        sa.Column("url", sa.Text),
        sa.Column("events", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("state", sa.Text, nullable=False, server_default=sa.text("'ACTIVE'")),
        sa.Column("disabled_because", sa.Text),
        sa.Column("created_at", _timestamp, nullable=False, server_default=_now),
        sa.Column("look_after", _timestamp),
        sa.CheckConstraint("state IN ('ACTIVE', 'DISABLED', 'DELETED')", name=op.f("ck_webhooks_state")),
        sa.PrimaryKeyConstraint("webhook_id", name=op.f("pk_webhooks")),
    )
    op.create_index("ix_webhooks_owner", "webhooks", ["owner"])
    op.create_index("ix_webhooks_lineage", "webhooks", ["lineage"])
    active = "state = 'ACTIVE' AND url IS NOT NULL AND sees_all"
    op.create_index("ix_webhooks_all", "webhooks", ["webhook_id"], postgresql_where=active)
    of_tasks = "url IS NULL AND state <> 'DELETED'"
    op.create_index("uq_webhooks_of_tasks", "webhooks", ["owner"], unique=True, postgresql_where=of_tasks)
    op.create_table(
        "webhook_secrets",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("webhook_id", sa.Text, nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("created_at", _timestamp, nullable=False, server_default=_now),
        sa.Column("expires_at", _timestamp),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_secrets")),
    )
    op.create_index("ix_webhook_secrets_webhook_id", "webhook_secrets", ["webhook_id"])
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("webhook_id", sa.Text, nullable=False),
        sa.Column("event_xid", sa.BigInteger),
        sa.Column("event_no", sa.BigInteger),
        sa.Column("event_id", sa.Text),
        sa.Column("task_id", sa.Text),
        sa.Column("url", sa.Text),
        sa.Column("body", sa.LargeBinary),
        sa.Column("state", sa.Text, nullable=False, server_default=sa.text("'PENDING'")),
        sa.Column("tries", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("last_status", sa.Integer),
        sa.Column("last_error", sa.Text),
        sa.Column("next_try_at", _timestamp),
        sa.Column("created_at", _timestamp, nullable=False, server_default=_now),
        sa.CheckConstraint("state IN ('PENDING', 'DELIVERED', 'DEAD')", name=op.f("ck_deliveries_state")),
        sa.CheckConstraint("(next_try_at IS NOT NULL) = (state = 'PENDING')", name=op.f("ck_deliveries_is_due")),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_deliveries")),
    )
    pending = "state = 'PENDING'"
    op.create_index("ix_deliveries_due", "deliveries", ["webhook_id", "next_try_at"], postgresql_where=pending)
    op.create_index("ix_deliveries_webhook", "deliveries", ["webhook_id", "created_at", "delivery_id"])
    op.create_index("ix_deliveries_task", "deliveries", ["task_id"], postgresql_where="task_id IS NOT NULL")
    op.execute(ADD_DELIVERIES)
    op.execute(
        "CREATE TRIGGER add_deliveries AFTER INSERT ON event_log REFERENCING NEW TABLE AS logged"
        " FOR EACH STATEMENT EXECUTE FUNCTION add_deliveries()"
    )


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
