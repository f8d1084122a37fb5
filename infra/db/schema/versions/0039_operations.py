"""Bulk operations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

_NOW = sa.text("clock_timestamp()")
_NONE = sa.text("0")


def upgrade() -> None:
    op.create_table(
        "operations",
        sa.Column("operation_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("filter", JSONB, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("lineage", sa.Text, nullable=False),
        sa.Column("grants", JSONB, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("request_hash", sa.Text, nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("bound", sa.BigInteger, nullable=False),
        sa.Column("matched", sa.BigInteger, nullable=False),
        sa.Column("done", sa.BigInteger, nullable=False, server_default=_NONE),
        sa.Column("failed", sa.BigInteger, nullable=False, server_default=_NONE),
        sa.Column("cursor", sa.BigInteger, nullable=False, server_default=_NONE),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("completed_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("operation_id", name=op.f("pk_operations")),
        sa.CheckConstraint("kind IN ('CANCEL', 'RETRY')", name=op.f("ck_operations_kind")),
        sa.CheckConstraint("state IN ('RUNNING', 'DONE')", name=op.f("ck_operations_state")),
        sa.CheckConstraint(
            "(completed_at IS NOT NULL) = (state = 'DONE')", name=op.f("ck_operations_completed_iff_done")
        ),
    )
    op.create_index(
        "uq_operations_idempotency",
        "operations",
        ["lineage", "idempotency_key"],
        unique=True,
        postgresql_where="idempotency_key IS NOT NULL",
    )
    op.create_index("ix_operations_running", "operations", ["updated_at"], postgresql_where="state = 'RUNNING'")
    op.create_index("ix_operations_ended", "operations", ["completed_at"], postgresql_where="completed_at IS NOT NULL")


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
