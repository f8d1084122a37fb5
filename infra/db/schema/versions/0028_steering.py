"""Calls that end, limit, group and retry tasks; and the workflows to notify of such an end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_ENDS_AS = (
    "end_reason IS NULL OR status = 'FAILED' AND end_reason IN ('REJECTED', 'POISON', 'CANCELLED')"
    " OR status = 'TIMEOUT' AND end_reason IN ('EXPIRED', 'DEADLINE')"
)


def upgrade() -> None:
    op.execute(
        "ALTER TABLE tasks ADD COLUMN end_reason text, ADD COLUMN expires_at timestamptz,"
        " ADD COLUMN deadline timestamptz, ADD COLUMN group_id text, ADD COLUMN retry_of text,"
        f" ADD CONSTRAINT ck_tasks_ends_as CHECK ({_ENDS_AS}) NOT VALID"
    )
    op.create_table(
        "outbox_ends",
        sa.Column("task_id", sa.Text, nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("clock_timestamp()")),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_outbox_ends")),
    )


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
