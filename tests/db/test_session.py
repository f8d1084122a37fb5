"""The pool: what a caller learns of a lost connection, and what becomes of that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import psycopg
import pytest
from psycopg.errors import ReadOnlySqlTransaction, UniqueViolation
from psycopg_pool import PoolTimeout

from infra.db.connection import Connection, WrongCount
from infra.db.session import Database, DatabaseSilent, is_unavailable
from tests.conftest import eventually
from tests.db.sessions import Sessions

PID = "SELECT pg_backend_pid()"


@pytest.fixture
async def small(engine: Sessions) -> AsyncIterator[Database]:
    """One that may open two connections."""
    found = Database(engine.url, connections=2)
    yield found
    await found.close()


def database_url(database: Database) -> str:
    return database.url.replace("+psycopg", "")


async def pid_of(connection: Connection) -> int:
    return await connection.one(int, PID)


async def all_over(database: Database) -> None:
    """Wait for the end of what has been given up, which nobody else waits for; then let the next call try at once."""
    async with asyncio.timeout(10):
        while database._running:
            await asyncio.wait(set(database._running))
    database._circuit.answered()


async def test_a_row_that_does_not_fit_is_not_shown(database: Database) -> None:
    async def twice(connection: Connection) -> None:
        await connection.execute("CREATE TEMPORARY TABLE once (word text PRIMARY KEY) ON COMMIT DROP")
        for _ in range(2):
            await connection.execute("INSERT INTO once VALUES (%(word)s)", {"word": "hidden-payload"})

    with pytest.raises(UniqueViolation) as caught:
        await database.run(twice)
    assert "duplicate key" in str(caught.value)
    assert "hidden-payload" not in str(caught.value)


async def test_a_connection_that_the_server_ends_counts_as_unavailable_and_is_replaced(database: Database) -> None:
    async def ended(connection: Connection) -> None:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    before = await database.run(pid_of)
    with pytest.raises(psycopg.Error) as caught:
        await database.run(ended)
    assert is_unavailable(caught.value)
    assert await database.run(pid_of) != before


async def test_a_single_statement_needs_no_transaction_and_leaves_none(database: Database) -> None:
    async def transactions(connection: Connection) -> set[int]:
        return {await connection.one(int, "SELECT txid_current()") for _ in range(2)}

    pid = await database.single(pid_of)
    assert len(await database.single(transactions)) == 2
    assert len(await database.run(transactions)) == 1
    assert await database.run(pid_of) == pid  # the same connection for both


async def test_after_a_single_statement_that_fails_the_connection_is_as_before(database: Database) -> None:
    async def wrong(connection: Connection) -> None:
        await connection.execute("SELECT 1 / 0")

    async def half(connection: Connection) -> None:
        await connection.execute("CREATE TABLE half_done (n int)")
        raise LookupError

    with pytest.raises(psycopg.Error, match="division by zero"):
        await database.single(wrong)
    pid = await database.run(pid_of)
    with pytest.raises(LookupError):
        await database.run(half)
    assert await database.run(pid_of) == pid
    exists = "SELECT to_regclass('half_done') IS NOT NULL"
    assert not await database.run(lambda c: c.one(bool, exists))


async def test_a_connection_that_is_lost_between_two_singles_is_replaced(database: Database) -> None:
    before = await database.single(pid_of)
    async with await psycopg.AsyncConnection.connect(database_url(database), autocommit=True) as other:
        await other.execute("SELECT pg_terminate_backend(%s, 5000)", (before,))
    with pytest.raises(psycopg.Error) as caught:
        await database.single(pid_of)
    assert is_unavailable(caught.value)
    assert await database.single(pid_of) != before


async def test_a_statement_that_is_given_up_gives_its_connection_up(database: Database) -> None:
    pids: list[int] = []

    async def slow(connection: Connection) -> None:
        pids.append(await pid_of(connection))
        await connection.execute("SELECT pg_sleep(30)")

    with pytest.raises(DatabaseSilent):
        await database.run(slow, within_s=1)
    await all_over(database)
    assert len(pids) == 1
    assert await database.run(pid_of) not in pids


async def test_a_commit_that_is_given_up_gives_its_connection_up(database: Database) -> None:
    async def slow_to_commit(connection: Connection) -> int:
        for statement in (
            "CREATE TEMPORARY TABLE slow (n int) ON COMMIT DROP",
            "CREATE FUNCTION pg_temp.sleep() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_sleep(30); RETURN NULL; END'",
            "CREATE CONSTRAINT TRIGGER sleep AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION pg_temp.sleep()",
            "INSERT INTO slow VALUES (1)",
        ):
            await connection.execute(statement)
        pids.append(await pid_of(connection))
        return pids[-1]

    pids: list[int] = []
    with pytest.raises(DatabaseSilent):
        await database.run(slow_to_commit, within_s=2)
    await all_over(database)
    assert len(pids) == 1
    assert await database.run(pid_of) not in pids


async def test_a_connection_that_is_left_busy_is_not_lent_again(database: Database) -> None:
    pids: list[int] = []

    async def breaks_off(connection: Connection) -> None:
        pids.append(await pid_of(connection))
        connection._opened.pgconn.send_query(b"SELECT 1")  # its answer is never fetched
        raise OSError

    for run in (database.single, database.run):
        with pytest.raises((OSError, psycopg.Error)):  # the rollback of what is under way fails
            await run(breaks_off)
    assert len(set(pids)) == 2
    assert await database.single(pid_of) not in pids


async def test_rows_are_counted(database: Database) -> None:
    async def number(connection: Connection, n: int) -> int:
        return await connection.one(int, "SELECT generate_series(1, %(n)s)", {"n": n})

    for n in (0, 2):
        with pytest.raises(WrongCount):
            await database.run(partial(number, n=n))


async def pids_at_once(database: Database, count: int) -> set[int]:
    """The connections of several transactions that are open together."""
    met = asyncio.Barrier(count)

    async def meet(connection: Connection) -> int:
        pid = await pid_of(connection)
        await met.wait()
        return pid

    return set(await asyncio.gather(*(database.run(meet) for _ in range(count))))


async def test_with_one_lost_connection_all_that_are_kept_are_given_up(database: Database) -> None:
    before = await pids_at_once(database, 3)
    async with await psycopg.AsyncConnection.connect(database_url(database), autocommit=True) as other:
        for pid in before:
            await other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    with pytest.raises(psycopg.Error):
        await database.run(pid_of)
    assert not before & await pids_at_once(database, 3)


async def test_one_that_is_given_up_leaves_the_others(database: Database) -> None:
    async def slow(connection: Connection) -> None:
        await connection.execute("SELECT pg_sleep(30)")

    before = await pids_at_once(database, 3)
    with pytest.raises(DatabaseSilent):
        await database.run(slow, within_s=1)
    await all_over(database)
    assert len(before & await pids_at_once(database, 3)) == 2


async def test_one_that_was_lent_while_another_was_found_lost_is_not_kept(database: Database) -> None:
    held, released = asyncio.Event(), asyncio.Event()

    async def hold(connection: Connection) -> int:
        pid = await pid_of(connection)
        held.set()
        await released.wait()
        return pid

    async def ended(connection: Connection) -> None:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    holding = asyncio.create_task(database.run(hold))
    await held.wait()
    with pytest.raises(psycopg.Error):
        await database.run(ended)
    young = await database.run(pid_of)
    released.set()
    old = await holding
    assert await pids_at_once(database, 2) & {young, old} == {young}


async def test_a_read_only_server_counts_as_away_and_every_connection_is_replaced(small: Database) -> None:
    """The server of a connection may have become a standby, while another one takes its place."""
    both = asyncio.Barrier(2)

    async def becomes_read_only(connection: Connection) -> None:
        await connection.execute("SET default_transaction_read_only = on")
        await both.wait()

    async def writes(connection: Connection) -> None:
        await connection.execute("CREATE TABLE never_there ()")

    before = await pids_at_once(small, 2)
    await asyncio.gather(*(small.single(becomes_read_only) for _ in range(2)))
    with pytest.raises(ReadOnlySqlTransaction) as caught:
        await small.run(writes)
    assert is_unavailable(caught.value)
    assert not before & await pids_at_once(small, 2)


async def test_who_finds_every_connection_in_use_waits_for_its_turn(small: Database) -> None:
    all_held, released = asyncio.Barrier(3), asyncio.Event()

    async def hold(connection: Connection) -> int:
        pid = await pid_of(connection)
        await all_held.wait()
        await released.wait()
        return pid

    holding = [asyncio.create_task(small.run(hold)) for _ in range(2)]
    await all_held.wait()
    small._pool.timeout = 0.2
    with pytest.raises(PoolTimeout) as caught:
        await small.single(pid_of)
    small._pool.timeout = 5
    assert is_unavailable(caught.value)
    waiting = asyncio.create_task(small.run(pid_of))
    released.set()
    assert await waiting in await asyncio.gather(*holding)
    assert len(await pids_at_once(small, 2)) == 2  # each turn was given back


async def test_a_caller_that_is_cancelled_while_its_connection_goes_back_loses_none(small: Database) -> None:
    async def work(connection: Connection) -> None:
        await pid_of(connection)
        await small._pool._lock.acquire()  # so its way back takes a while

    async def is_on_its_way() -> bool:
        return bool(small._giving_back)

    calling = asyncio.create_task(small.single(work))
    await eventually(is_on_its_way)
    calling.cancel()
    await asyncio.wait((calling,))
    small._pool._lock.release()
    assert len(await pids_at_once(small, 2)) == 2


async def test_an_error_of_the_work_is_an_answer_of_the_database(database: Database) -> None:
    async def not_there(connection: Connection) -> None:
        await pid_of(connection)
        raise LookupError

    await database.run(pid_of)  # no new connection is needed below
    database._circuit.open()
    database._circuit._next_try = 0.0
    with pytest.raises(LookupError):
        await database.run(not_there)
    await database.run(pid_of)
