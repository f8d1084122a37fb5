"""Draining nodes: who began it, when and why, and until when running work may go on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("gpus", sa.Column("drained_at", sa.DateTime(timezone=True)))
    op.add_column("gpus", sa.Column("drained_by", sa.Text()))
    op.add_column("gpus", sa.Column("drain_reason", sa.Text()))
    op.add_column("gpus", sa.Column("drain_deadline", sa.DateTime(timezone=True)))
    op.create_index("ix_gpus_draining", "gpus", ["drain_deadline"], postgresql_where="drained_at IS NOT NULL")


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
