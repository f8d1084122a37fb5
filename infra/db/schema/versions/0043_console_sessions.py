"""Sessions of the console, and the links that begin one."""

from __future__ import annotations

from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE console_sessions (
            session_hash text NOT NULL,
            key_id text NOT NULL,
            is_link boolean NOT NULL,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            expires_at timestamptz NOT NULL,
            CONSTRAINT pk_console_sessions PRIMARY KEY (session_hash)
        )
        """
    )
    op.execute("CREATE INDEX ix_console_sessions_expires_at ON console_sessions (expires_at)")


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
