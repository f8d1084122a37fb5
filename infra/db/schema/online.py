"""Changes of the schema under load: how to write a migration.

A migration runs while the programs of the version before it serve, and they go on with the schema that it leaves:

- It adds. A new column is nullable or has a constant default; a new constraint is one that old programs keep.
- `tasks`, `attempts`, `task_events`, `late_reports`, `audit_log` and `counters` may be large. `create_index` builds
  their indexes and `drop_index` removes them, in a migration that does nothing else. A check on them is added NOT VALID
  and validated by a later migration. Old rows are read with a COALESCE or filled in batches, not by one UPDATE.
- A migration is one transaction. ALTER TABLE waits for its lock for `LOCK_TIMEOUT_MS` (`migrate`); then the whole
  migration is rolled back and repeated. So it changes one hot table, and does nothing outside of the database.
- `create_index` and `drop_index` end the transaction that they find. They can be interrupted at any moment, and
  repeating them finishes the work.
- What a version stops using is removed by the migration of a later version, which calls `needs_program`.

A file is `versions/NNNN_name.py`; its revision is NNNN, its `down_revision` the number before. There is no downgrade:
a step back keeps the schema (docs/upgrade.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from alembic import op
from sqlalchemy import TextClause, text

_IS_VALID = text(
    "SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass(quote_ident(CAST(:name AS text)))"
)
_RAISE_OLDEST = text("UPDATE schema_compatibility SET oldest_program = GREATEST(oldest_program, :revision)")
_STOP_BEFORE = text("UPDATE alembic_version SET version_num = :revision")


def create_index(name: str, table: str, columns: Sequence[str | TextClause], **options: Any) -> None:
    """Build an index while rows are written. What an interrupted build has left is removed first."""
    with _each_statement_alone():
        is_valid = op.get_bind().execute(_IS_VALID, {"name": name}).scalar_one_or_none()
        if is_valid is False:
            op.drop_index(name, table_name=table, postgresql_concurrently=True)
        if not is_valid:
            op.create_index(name, table, columns, postgresql_concurrently=True, **options)


def drop_index(name: str, table: str) -> None:
    """Remove an index while rows are written."""
    with _each_statement_alone():
        op.drop_index(name, table_name=table, postgresql_concurrently=True, if_exists=True)


def needs_program(revision: str) -> None:
    """Refuse programs older than `revision` from now on: this migration removes what they use."""
    op.get_bind().execute(_RAISE_OLDEST, {"revision": revision})
    op.get_bind().execute(_STOP_BEFORE, {"revision": revision})  # programs up to 0010 read that, and end


@contextmanager
def _each_statement_alone() -> Iterator[None]:
    """Run each statement outside a transaction, without a timeout: waiting for these locks holds up no reader or
    writer."""
    with op.get_context().autocommit_block():
        timeout = op.get_bind().execute(text("SHOW lock_timeout")).scalar_one()
        op.execute("SET lock_timeout = 0")
        yield
        op.get_bind().execute(text("SELECT set_config('lock_timeout', :timeout, false)"), {"timeout": timeout})
