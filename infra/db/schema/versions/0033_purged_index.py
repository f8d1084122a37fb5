"""An index of ended tasks that still have their payload."""

from __future__ import annotations

from infra.db.schema.online import create_index

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = "completed_at IS NOT NULL AND purged_at IS NULL"
    create_index("ix_tasks_unpurged", "tasks", ["completed_at"], postgresql_where=where)


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
