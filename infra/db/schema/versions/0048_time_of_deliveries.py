"""The time of a delivery is that of its event, which is what callers know when they ask for a replay."""

from __future__ import annotations

from alembic import op

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None

ADD_DELIVERIES = """
CREATE OR REPLACE FUNCTION add_deliveries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM webhooks WHERE state = 'ACTIVE') THEN
        RETURN NULL;
    END IF;
    INSERT INTO deliveries (webhook_id, event_xid, event_no, task_id, url, next_try_at, created_at)
    SELECT w.webhook_id, n.xid, n.id, n.task_id, w.own_url, clock_timestamp(), n.at
      FROM logged n CROSS JOIN LATERAL (
           SELECT webhook_id, events, NULL AS own_url FROM webhooks
            WHERE state = 'ACTIVE' AND url IS NOT NULL AND sees_all
           UNION ALL
           SELECT webhook_id, events, NULL FROM webhooks
            WHERE state = 'ACTIVE' AND url IS NOT NULL AND NOT sees_all AND owner = n.user_id
           UNION ALL
           SELECT webhook_id, events, NULL FROM webhooks
            WHERE state = 'ACTIVE' AND url IS NOT NULL AND NOT sees_all AND lineage = n.lineage
              AND owner IS DISTINCT FROM n.user_id
           UNION ALL
           SELECT s.webhook_id, s.events, t.webhook FROM tasks t JOIN webhooks s USING (webhook_id)
            WHERE t.task_id = n.task_id AND n.type = 'task.ended' AND s.state = 'ACTIVE') w
     WHERE n.type = ANY (w.events)
     ORDER BY n.xid, n.id;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.execute(ADD_DELIVERIES)


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
