"""Which programs can run on this schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "schema_compatibility",
        sa.Column("oldest_program", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("oldest_program", name=op.f("pk_schema_compatibility")),
    )
    op.execute("INSERT INTO schema_compatibility (oldest_program) VALUES ('0010')")


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
