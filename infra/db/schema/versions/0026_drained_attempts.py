"""Attempts that are handed back at the deadline of their node's drain."""

from __future__ import annotations

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

OUTCOMES = (
    "SUCCEEDED",
    "FAILED",
    "TIMED_OUT",
    "REJECTED",
    "PROTOCOL_ERROR",
    "HANDED_BACK",
    "REFUSED",
    "UNREACHABLE",
    "LOST",
    "FAULTY",
    "DEREGISTERED",
    "DRAINED",
)


def upgrade() -> None:
    listed = ", ".join(f"'{outcome}'" for outcome in OUTCOMES)
    op.execute("ALTER TABLE attempts DROP CONSTRAINT ck_attempts_outcome")
    op.execute(f"ALTER TABLE attempts ADD CONSTRAINT ck_attempts_outcome CHECK (outcome IN ({listed})) NOT VALID")


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
