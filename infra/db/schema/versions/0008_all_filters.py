"""A page by gpuId and other filters at once is found in one index, however many tasks there are."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(  # under a name of its own: the old one is read until this one is there
        "ix_tasks_gpu_filters",
        "tasks",
        ["gpu_id", "display_id"],
        unique=False,
        postgresql_include=["task_type", "status"],
    )
    op.drop_index("ix_tasks_gpu", table_name="tasks")


def downgrade() -> None:
    raise NotImplementedError("restore the backup taken before the upgrade")
