"""When a task's payload and result were forgotten."""

from __future__ import annotations

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE tasks ADD COLUMN purged_at timestamptz")


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
