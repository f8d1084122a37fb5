"""The flow that a task takes its turn with, where it is not its app's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("flow", sa.Text()))


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
