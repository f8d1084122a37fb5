"""The last alert of a cause is found in an index, however many alerts there are."""

from __future__ import annotations

from infra.db.schema.online import create_index

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index("ix_alerts_cause", "alerts", ["cause", "seq"])


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
