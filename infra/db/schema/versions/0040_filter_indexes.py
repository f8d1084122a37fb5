"""Indexes of the filters that no kept count answers."""

from __future__ import annotations

from infra.db.schema.online import create_index

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index("ix_tasks_app", "tasks", ["app", "display_id"])
    create_index("ix_tasks_created", "tasks", ["created_at"])
    create_index(
        "ix_tasks_end_reason", "tasks", ["end_reason", "display_id"], postgresql_where="end_reason IS NOT NULL"
    )


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
