"""The counts of tasks summed over their types: of those callers may invent any number."""

from __future__ import annotations

from alembic import op

revision = "0050"
down_revision = "0049"
branch_labels = None
depends_on = None

# Beside each counter of tasks ('tasks', 'user:USER_ID' …) its sums: ('sum:COUNTER', 'STATUS'). A trigger keeps them, so
# that they are right whichever version folds; in order, so that of two that fold at once one waits for the other.
SUMS = """
    SELECT 'sum:' || counter, split_part(key, ' ', 2), {n}
      FROM {table} WHERE split_part(counter, ':', 1) IN ('tasks', 'user', 'gpu', 'user_gpu', 'group', 'user_group')
     GROUP BY 1, 2 HAVING sum(n) <> 0 ORDER BY 1, 2
"""
SUM = f"""
CREATE FUNCTION sum_counters() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM changed WHERE counter NOT LIKE 'sum:%') THEN  -- else it has been fired by itself
        INSERT INTO counters AS c (counter, key, n)
        {SUMS.format(n="CAST(TG_ARGV[0] AS integer) * sum(n)", table="changed")}
            ON CONFLICT (counter, key) DO UPDATE SET n = c.n + excluded.n;
    END IF;
    RETURN NULL;
END $$
"""
TRIGGERS = (("insert", "INSERT", "NEW", 1), ("update", "UPDATE", "NEW", 1), ("replace", "UPDATE", "OLD", -1),
            ("delete", "DELETE", "OLD", -1))  # fmt: skip


def upgrade() -> None:
    op.execute(SUM)
    for name, event, rows, sign in TRIGGERS:  # the first one locks out those that fold until the commit
        op.execute(
            f"CREATE TRIGGER sum_{name} AFTER {event} ON counters REFERENCING {rows} TABLE AS changed"
            f" FOR EACH STATEMENT EXECUTE FUNCTION sum_counters('{sign}')"
        )
    op.execute("INSERT INTO counters (counter, key, n)" + SUMS.format(n="sum(n)", table="counters"))


def downgrade() -> None:
    raise NotImplementedError("a step back keeps the schema")
