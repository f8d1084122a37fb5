"""The order in which the waiting tasks of a group run, for the end of its last one."""

from __future__ import annotations

from sqlalchemy import text

from infra.db.schema.online import create_index

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index(
        "ix_tasks_group_queue",
        "tasks",
        ["group_id", "task_type", text("queue_class DESC"), "queue_rank"],
        postgresql_include=["user_id"],
        postgresql_where="group_id IS NOT NULL AND waiting_since IS NOT NULL",
    )


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
