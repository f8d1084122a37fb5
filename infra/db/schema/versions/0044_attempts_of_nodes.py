"""The attempts of a node that ended otherwise than by its own work, by time: for the timeline of its slots.

`ix_attempts_compared` has the others. These are few, so the index costs a task that runs well nothing.
"""

from __future__ import annotations

from sqlalchemy import text

from infra.db.schema.online import create_index

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None

OTHERS = text("outcome NOT IN ('FAILED', 'PROTOCOL_ERROR', 'REJECTED', 'SUCCEEDED', 'TIMED_OUT')")


def upgrade() -> None:
    create_index("ix_attempts_not_compared", "attempts", ["gpu_id", "closed_at"], postgresql_where=OTHERS)


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
