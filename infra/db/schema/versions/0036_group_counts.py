"""Counts of tasks by group."""

from __future__ import annotations

from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

# More counters beside those of 0005: ('group:GROUP_ID', 'TYPE STATUS') for all owners together, and for each of them
# ('user_group:LENGTH:USER_ID GROUP_ID', 'TYPE STATUS').
COUNT = """
CREATE OR REPLACE FUNCTION count_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before text := NEW.task_type || ' ' || OLD.status;
    after text := NEW.task_type || ' ' || NEW.status;
    own_group text := 'user_group:' || length(NEW.user_id) || ':' || NEW.user_id || ' ' || NEW.group_id;
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO counter_deltas VALUES ('tasks', after, 1), ('user:' || NEW.user_id, after, 1);
        IF NEW.group_id IS NOT NULL THEN
            INSERT INTO counter_deltas VALUES ('group:' || NEW.group_id, after, 1), (own_group, after, 1);
        END IF;
        RETURN NULL;
    END IF;
    IF NEW.status <> OLD.status THEN
        INSERT INTO counter_deltas VALUES ('tasks', before, -1), ('tasks', after, 1),
                                          ('user:' || NEW.user_id, before, -1), ('user:' || NEW.user_id, after, 1);
        IF NEW.group_id IS NOT NULL THEN
            INSERT INTO counter_deltas VALUES ('group:' || NEW.group_id, before, -1), ('group:' || NEW.group_id, after, 1),
                                              (own_group, before, -1), (own_group, after, 1);
        END IF;
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
UNCOUNT = """
CREATE OR REPLACE FUNCTION uncount_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counter_deltas
    SELECT counter, key, -sum(n)
      FROM (SELECT user_id, gpu_id, group_id, task_type || ' ' || status AS key, count(*) AS n
              FROM gone GROUP BY 1, 2, 3, 4) kinds
     CROSS JOIN LATERAL (
           VALUES ('tasks'), ('user:' || user_id), ('gpu:' || gpu_id),
                  ('user_gpu:' || length(user_id) || ':' || user_id || ' ' || gpu_id), ('group:' || group_id),
                  ('user_group:' || length(user_id) || ':' || user_id || ' ' || group_id)) AS c (counter)
     WHERE counter IS NOT NULL
     GROUP BY counter, key;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.execute(COUNT)
    op.execute(UNCOUNT)


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
