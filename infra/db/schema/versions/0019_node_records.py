"""A record of a node's last attempts, which decides when it rests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    none = sa.text("'{}'")
    op.add_column("gpus", sa.Column("failed_tasks", sa.ARRAY(sa.Text()), server_default=none, nullable=False))
    op.add_column("gpus", sa.Column("failed_flow", sa.Text()))
    op.add_column("gpus", sa.Column("rests", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("gpus", sa.Column("hand_backs", sa.Integer(), server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
