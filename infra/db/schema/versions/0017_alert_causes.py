"""The cause of an alert, and how often it has repeated since the alert was raised."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("alerts", sa.Column("cause", sa.Text()))
    op.add_column("alerts", sa.Column("count", sa.BigInteger(), server_default=sa.text("1"), nullable=False))


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
