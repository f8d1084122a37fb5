"""A page by any filters is found in one index, in which each type and status is a stretch in the list's order."""

from __future__ import annotations

from infra.db.schema.online import create_index, drop_index

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index("ix_tasks_kind", "tasks", ["task_type", "status", "display_id"])
    create_index(
        "ix_tasks_gpu_kind", "tasks", ["gpu_id", "task_type", "status", "display_id"], postgresql_include=["user_id"]
    )
    create_index(
        "ix_tasks_user_kind", "tasks", ["user_id", "task_type", "status", "display_id"], postgresql_include=["gpu_id"]
    )
    # Programs of the version before only read more slowly without these.
    for name in ("ix_tasks_type", "ix_tasks_gpu_filters", "ix_tasks_user"):
        drop_index(name, "tasks")


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
