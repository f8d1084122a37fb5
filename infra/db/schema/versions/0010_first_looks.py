"""When the workflows of waiting tasks take their first steps, where that is put off."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "first_looks",
        sa.Column("task_id", sa.Text, nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_first_looks")),
    )


def downgrade() -> None:
    raise NotImplementedError("restore the backup taken before the upgrade")
