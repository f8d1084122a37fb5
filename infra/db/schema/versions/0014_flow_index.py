"""The last waiting task of a flow is found in an index. The index by app is that of the version before."""

from __future__ import annotations

import sqlalchemy as sa

from infra.db.schema.online import create_index

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index(
        "ix_tasks_share",
        "tasks",
        ["task_type", "queue_class", sa.text("(COALESCE(flow, 'app:' || app))"), "queue_rank"],
        postgresql_where="waiting_since IS NOT NULL AND promoted_at IS NULL",
    )


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
