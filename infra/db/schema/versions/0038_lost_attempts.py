"""An index of the attempts that were taken from silent nodes."""

from __future__ import annotations

from infra.db.schema.online import create_index

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index("ix_attempts_lost", "attempts", ["gpu_id", "closed_at"], postgresql_where="outcome = 'LOST'")


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
