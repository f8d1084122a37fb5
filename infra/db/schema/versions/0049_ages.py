"""Indexes by age of what the retention forgets: in the order of numbers the oldest may stand behind younger ones."""

from __future__ import annotations

from infra.db.schema.online import create_index

revision = "0049"
down_revision = "0048"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index("ix_audit_log_at", "audit_log", ["at"])
    create_index("ix_alerts_raised_at", "alerts", ["raised_at"])
    create_index("ix_deliveries_created_at", "deliveries", ["created_at"])


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
