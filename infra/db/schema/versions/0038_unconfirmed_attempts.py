"""An index of the closed attempts that their nodes may still run, and have not confirmed to have stopped."""

from __future__ import annotations

from infra.db.schema.online import create_index

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index(
        "ix_attempts_unconfirmed",
        "attempts",
        ["gpu_id", "closed_at"],
        postgresql_where="(outcome = 'LOST' OR outcome IN ('DEREGISTERED', 'DRAINED', 'FAULTY', 'PROTOCOL_ERROR',"
        " 'TASK_ENDED', 'TIMED_OUT', 'UNREACHABLE')"
        " AND (released_at IS NULL OR released_at - closed_at >= interval '10 s'))",
    )


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
