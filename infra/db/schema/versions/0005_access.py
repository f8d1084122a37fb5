"""Lineages and options of keys, gpuIds bound to them, the audit log, and counts of tasks by user"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# More counters beside those of 0003: ('user:USER_ID', 'TYPE STATUS'), and for both filters at once
# ('user_gpu:LENGTH:USER_ID GPU_ID', 'TYPE STATUS'), where the length says where the user's id ends.
TASKS = """
CREATE OR REPLACE FUNCTION count_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before text := NEW.task_type || ' ' || OLD.status;
    after text := NEW.task_type || ' ' || NEW.status;
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO counter_deltas VALUES ('tasks', after, 1), ('user:' || NEW.user_id, after, 1);
        RETURN NULL;
    END IF;
    IF NEW.status <> OLD.status THEN
        INSERT INTO counter_deltas VALUES ('tasks', before, -1), ('tasks', after, 1),
                                          ('user:' || NEW.user_id, before, -1), ('user:' || NEW.user_id, after, 1);
    END IF;
    IF NEW.status <> OLD.status OR NEW.gpu_id IS DISTINCT FROM OLD.gpu_id THEN
        INSERT INTO counter_deltas
        SELECT prefix || gpu_id, key, n
          FROM (VALUES (OLD.gpu_id, before, -1), (NEW.gpu_id, after, 1)) AS moved(gpu_id, key, n)
         CROSS JOIN (VALUES ('gpu:'), ('user_gpu:' || length(NEW.user_id) || ':' || NEW.user_id || ' ')) AS c(prefix)
         WHERE gpu_id IS NOT NULL;
    END IF;
    RETURN NULL;
END $$
"""
RECOUNT = """
INSERT INTO counters
SELECT 'user:' || user_id, task_type || ' ' || status, count(*) FROM tasks GROUP BY user_id, task_type, status
UNION ALL
SELECT 'user_gpu:' || length(user_id) || ':' || user_id || ' ' || gpu_id, task_type || ' ' || status, count(*)
  FROM tasks WHERE gpu_id IS NOT NULL GROUP BY user_id, gpu_id, task_type, status
"""


def upgrade() -> None:
    _extend_keys()
    # Until now a key's id was all that a caller was known by; it is the name of the lineage that begins with it.
    op.alter_column("tasks", "key_id", new_column_name="lineage")
    op.alter_column("gpus", "key_id", new_column_name="lineage")
    op.execute("UPDATE gpus SET lineage = NULL WHERE lineage NOT IN (SELECT key_id FROM api_keys WHERE role = 'node')")
    _add_audit_log()
    op.execute(TASKS)
    op.execute(RECOUNT)


def _extend_keys() -> None:
    op.add_column("api_keys", sa.Column("lineage", sa.Text()))
    op.execute("UPDATE api_keys SET lineage = key_id")
    op.alter_column("api_keys", "lineage", nullable=False)
    op.add_column(
        "api_keys", sa.Column("acts_for_others", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column("api_keys", sa.Column("note", sa.Text()))
    op.add_column("api_keys", sa.Column("revoked_by", sa.Text()))
    op.create_index("ix_api_keys_lineage", "api_keys", ["lineage"])


def _add_audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("key_id", sa.Text()),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("role", sa.Text()),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index("ix_audit_log_key", "audit_log", ["key_id", "id"])
    op.create_index("ix_audit_log_owner", "audit_log", ["owner", "id"])
    op.create_index("ix_audit_log_action", "audit_log", ["action", "id"])


def downgrade() -> None:
    raise NotImplementedError("restore the backup taken before the upgrade")
