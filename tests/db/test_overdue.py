"""Steps that take their turn, and are not overdue."""

from __future__ import annotations

import pytest

from infra.db.repair import overdue, verify
from tests.db.books import LONG_AGO, Books
from tests.db.sessions import Session


@pytest.mark.parametrize(("age_s", "is_overdue"), [(50, False), (70, True)])
async def test_what_has_stayed_in_the_outbox_is_overdue(
    books: Books, connection: Session, age_s: int, is_overdue: bool
) -> None:
    await books.sql(f"UPDATE outbox SET created_at = clock_timestamp() - interval '{age_s} s'")
    found = await verify.find(connection, overdue.OVERDUE)
    assert ("waiting is not started" in found.examples) == is_overdue


@pytest.mark.parametrize(("age_s", "is_overdue"), [(100, False), (130, True)])
async def test_after_many_ends_at_one_moment_each_is_notified_in_its_turn(
    books: Books, connection: Session, age_s: int, is_overdue: bool
) -> None:
    moment, many = f"clock_timestamp() - interval '{age_s} s'", 60 * overdue.ENDS_PER_S
    await books.sql(
        "CREATE TABLE copied AS SELECT * FROM tasks WHERE task_id = 'failed'",
        f"UPDATE copied SET idempotency_key = NULL, end_reason = 'CANCELLED', completed_at = {moment},"
        f" created_at = {LONG_AGO}, started_at = NULL",
        "INSERT INTO tasks OVERRIDING SYSTEM VALUE SELECT (jsonb_populate_record(c, jsonb_build_object('task_id',"
        f" 'many ' || n, 'display_id', 100000 + n))).* FROM copied c, generate_series(1, {many}) n",
        f"INSERT INTO outbox_ends VALUES ('many 7', {moment})",
    )
    found = await verify.find(connection, overdue.OVERDUE)
    assert ("many 7 has ended, and its workflow is not notified" in found.examples) == is_overdue
    assert await verify.closes_within_s(connection, "many 7") == 120
    assert await verify.closes_within_s(connection, "done") == 60


@pytest.mark.parametrize(("age_s", "is_overdue"), [(100, False), (130, True)])
async def test_after_many_creations_at_one_moment_each_is_started_in_its_turn(
    books: Books, connection: Session, age_s: int, is_overdue: bool
) -> None:
    moment, many = f"clock_timestamp() - interval '{age_s} s'", 60 * overdue.STARTS_PER_S - 1
    await books.sql(
        f"CREATE TABLE moment AS SELECT {moment} AS at",
        "CREATE TABLE copied AS SELECT * FROM tasks WHERE task_id = 'failed'",
        "UPDATE copied SET idempotency_key = NULL, created_at = at, started_at = NULL FROM moment",
        "INSERT INTO tasks OVERRIDING SYSTEM VALUE SELECT (jsonb_populate_record(c, jsonb_build_object('task_id',"
        f" 'many ' || n, 'display_id', 100000 + n))).* FROM copied c, generate_series(1, {many}) n",
        "UPDATE tasks SET created_at = at FROM moment WHERE task_id = 'waiting'",
        "UPDATE outbox SET created_at = at FROM moment",
    )
    found = await verify.find(connection, overdue.OVERDUE)
    assert ("waiting is not started" in found.examples) == is_overdue


async def test_the_time_of_an_attempt_counts_from_its_acceptance(books: Books, connection: Session) -> None:
    await books.sql(
        f"UPDATE attempts SET claimed_at = {LONG_AGO}, accepted_at = clock_timestamp() WHERE task_id = 'running'"
    )
    assert (await verify.find(connection, overdue.OVERDUE)).violations == 0
