"""The last attempts of a node on which it is compared with its peers."""

from __future__ import annotations

from infra.db.schema.online import create_index

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

WHERE = "outcome IN ('SUCCEEDED', 'FAILED', 'TIMED_OUT', 'REJECTED', 'PROTOCOL_ERROR')"


def upgrade() -> None:
    create_index("ix_attempts_compared", "attempts", ["gpu_id", "closed_at"], postgresql_where=WHERE)


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
