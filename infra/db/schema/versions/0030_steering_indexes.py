"""Indexes of held slots, of limits, and of groups."""

from __future__ import annotations

from infra.db.schema.online import create_index

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index("ix_attempts_unreleased", "attempts", ["gpu_id"], postgresql_where="released_at IS NULL")
    create_index(
        "ix_tasks_expiry", "tasks", ["expires_at"], postgresql_where="status = 'QUEUED' AND expires_at IS NOT NULL"
    )
    create_index(
        "ix_tasks_deadline", "tasks", ["deadline"], postgresql_where="completed_at IS NULL AND deadline IS NOT NULL"
    )
    create_index("ix_tasks_group", "tasks", ["group_id", "display_id"], postgresql_where="group_id IS NOT NULL")


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
