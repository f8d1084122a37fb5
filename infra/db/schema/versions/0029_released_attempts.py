"""An attempt is closed, and later released: its slot is held while the node may still run it."""

from __future__ import annotations

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

_OUTCOMES = (
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
    "TASK_ENDED",
)


def upgrade() -> None:
    listed = ", ".join(f"'{one}'" for one in _OUTCOMES)
    op.execute(
        "ALTER TABLE attempts ADD COLUMN released_at timestamptz DEFAULT 'epoch',"  # a constant: no row is rewritten
        " DROP CONSTRAINT ck_attempts_outcome,"
        f" ADD CONSTRAINT ck_attempts_outcome CHECK (outcome IN ({listed})) NOT VALID"
    )
    op.execute("ALTER TABLE attempts ALTER COLUMN released_at DROP DEFAULT")
    op.execute("UPDATE attempts SET released_at = NULL WHERE closed_at IS NULL")


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
