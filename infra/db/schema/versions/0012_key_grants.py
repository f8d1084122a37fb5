"""Limits of a lineage's keys within their role."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "key_grants",
        sa.Column("lineage", sa.Text(), nullable=False),
        sa.Column("grants", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("lineage", name=op.f("pk_key_grants")),
    )


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
