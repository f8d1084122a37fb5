"""Validate the checks of 0028 and 0029."""

from __future__ import annotations

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE attempts VALIDATE CONSTRAINT ck_attempts_outcome")
    op.execute("ALTER TABLE tasks VALIDATE CONSTRAINT ck_tasks_ends_as")


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
