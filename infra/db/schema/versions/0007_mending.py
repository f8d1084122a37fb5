"""Find quickly the queued tasks that neither wait for a slot nor hold one"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_tasks_idle", "tasks", ["updated_at"], postgresql_where="status = 'QUEUED' AND waiting_since IS NULL"
    )


def downgrade() -> None:
    raise NotImplementedError("restore the backup taken before the upgrade")
