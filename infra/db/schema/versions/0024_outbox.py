"""The outbox: tasks whose workflow has not been started yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("task_id", sa.Text, nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("clock_timestamp()")
        ),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_outbox")),
    )
    op.execute(
        "INSERT INTO outbox (task_id)"
        " SELECT task_id FROM tasks WHERE engine_started_at IS NULL AND completed_at IS NULL"
    )


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
