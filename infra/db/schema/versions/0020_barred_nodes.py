"""The nodes that get a task only where no other could take it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    none = sa.text("'{}'")
    op.add_column("tasks", sa.Column("barred_on", sa.ARRAY(sa.Text()), server_default=none, nullable=False))


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
