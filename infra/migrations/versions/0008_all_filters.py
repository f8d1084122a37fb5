"""A page by gpuId and other filters at once is found in one index, however many tasks there are."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_tasks_gpu", table_name="tasks")
    op.create_index(
        "ix_tasks_gpu", "tasks", ["gpu_id", "display_id"], unique=False, postgresql_include=["task_type", "status"]
    )


def downgrade() -> None:
    raise NotImplementedError("restore the backup taken before the upgrade")
