"""The channel to notify when an attempt closes, if its dispatch waits for that."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("watched_by", sa.Text))


def downgrade() -> None:
    raise NotImplementedError("restore the backup taken before the upgrade")
