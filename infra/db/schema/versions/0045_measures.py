"""Begin to measure what happens with what happens from now on: the place in the event log from which it is added up."""

from __future__ import annotations

from alembic import op

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None

_LOG = """
    left(encode(sha256(convert_to(epoch || ' ' || (SELECT system_identifier FROM pg_control_system()) || ' '
         || (SELECT oid FROM pg_database WHERE datname = current_database()), 'UTF8')), 'hex'), 8)"""


def upgrade() -> None:
    op.execute(
        f"""
        INSERT INTO monitor_reports (name, body)
        SELECT 'measures', json_build_object('log', {_LOG}, 'id', 0, 'xid',
                   CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint))
          FROM event_log_state ON CONFLICT (name) DO NOTHING
        """
    )


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
