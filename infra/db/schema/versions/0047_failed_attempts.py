"""The index of failed attempts by time: the failures of the last day, however many attempts have succeeded."""

from __future__ import annotations

from sqlalchemy import text

from infra.db.schema.online import create_index

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None

IS_FAILURE = "outcome IN ('FAILED', 'TIMED_OUT', 'REJECTED', 'PROTOCOL_ERROR')"


def upgrade() -> None:
    create_index("ix_attempts_failed", "attempts", ["closed_at"], postgresql_where=text(IS_FAILURE))


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
