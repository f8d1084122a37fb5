"""Know which failures count against a node, and read a node's last attempts from an index"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("blamed", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_index(
        "ix_attempts_ended",
        "attempts",
        ["gpu_id", "closed_at"],
        postgresql_where="outcome IN ('SUCCEEDED', 'FAILED', 'TIMED_OUT')",
    )
    op.add_column(
        "gpus",
        sa.Column(
            "judged_since",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
    )


def downgrade() -> None:
    raise NotImplementedError("restore the backup taken before the upgrade")
