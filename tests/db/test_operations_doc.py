"""The statements of docs/operations.md run, and do what it says."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra.data_dir import embedded
from infra.db.nodes import transitions as node_transitions
from infra.db.ops import alerts, counters
from infra.db.session import Database
from tests.db.conftest import NAME
from tests.db.sessions import Sessions
from workers.stack.stack import Stack

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
BLOCKS = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)
ENDED = """
    INSERT INTO tasks (task_id, task_type, status, user_id, app, priority, queue_class, payload, timeout_ms,
                       max_retries, queue_rank, engine_started_at, created_at, started_at, completed_at)
    SELECT %(id)s, 1, 'COMPLETED', 'u', 'a', 1, 0, '{}', 1, 0, 0, now(), ended, ended, ended
      FROM (SELECT now() - %(age)s::interval AS ended) moment
"""
PARTS = (
    "INSERT INTO attempts (task_id, attempt, gpu_id, gpu_epoch, slot, ip, port, token, closed_at, released_at,"
    " outcome)"
    " VALUES (%(id)s, 1, 'g', 1, 1, '127.0.0.1', 1, %(id)s, now(), now(), 'SUCCEEDED')",
    "INSERT INTO task_results (task_id, attempt, gpu_id, result) VALUES (%(id)s, 1, 'g', '{}')",
    "INSERT INTO task_events (task_id, seq, to_status, actor) VALUES (%(id)s, 1, 'QUEUED', 'test')",
    "INSERT INTO late_reports (task_id, kind, body) VALUES (%(id)s, 'result', '{}')",
)


def block(words: str) -> str:
    (found,) = [one for one in BLOCKS if words in one]
    return found


@pytest.fixture
async def session(stack: Stack, engine: Sessions) -> psycopg.AsyncConnection:
    """A connection to the tests' own database; `engine` has made it."""
    url = embedded.postgres_url(stack.data_dir, NAME).replace("postgresql+psycopg", "postgresql")
    return await psycopg.AsyncConnection.connect(url, autocommit=True)


async def test_what_is_old_is_pruned_whole(session: psycopg.AsyncConnection) -> None:
    async with session:
        for task_id, age in (("doc_old", "91 days"), ("doc_young", "89 days")):
            await session.execute(ENDED, {"id": task_id, "age": age})
            for part in PARTS:
                await session.execute(part, {"id": task_id})
        for _ in range(2):
            await session.execute(block("CREATE TEMPORARY TABLE old"))
        for table in ("tasks", "attempts", "task_results", "task_events", "late_reports"):
            rows = await session.execute(f"SELECT task_id FROM {table} WHERE task_id LIKE 'doc\\_%'")
            assert await rows.fetchall() == [("doc_young",)], table
        await session.execute(block("CREATE TEMPORARY TABLE old").replace("90 days", "0 days"))
        rows = await session.execute("SELECT FROM tasks WHERE task_id LIKE 'doc\\_%'")
        assert await rows.fetchall() == []


async def test_what_is_pruned_is_not_counted_any_more(session: psycopg.AsyncConnection, database: Database) -> None:
    async def totals() -> list[int]:
        whose: tuple[dict[str, Any], ...] = ({}, {"user_id": "u"}, {"gpu_id": "doc"}, {"user_id": "u", "gpu_id": "doc"})
        return [sum((await database.run(partial(counters.tasks_by_kind, **w))).values()) for w in whose]

    async with session:
        before = await totals()
        for number in range(10):
            await session.execute(ENDED, {"id": f"doc_{number}", "age": f"{86 + number} days"})
            await session.execute("UPDATE tasks SET gpu_id = 'doc' WHERE task_id = %s", [f"doc_{number}"])
        await session.execute(block("CREATE TEMPORARY TABLE old"))
        assert await totals() == [number + 4 for number in before]
        await session.execute(block("CREATE TEMPORARY TABLE old").replace("90 days", "0 days"))
        assert await totals() == before


@pytest.mark.parametrize("words", ["INSERT INTO outbox", "pg_total_relation_size"])
async def test_the_others_run(session: psycopg.AsyncConnection, words: str) -> None:
    async with session:
        await session.execute(block(words))


def test_every_alert_is_explained() -> None:
    sources = [Path(str(module.__file__)).read_text("utf-8") for module in (alerts, node_transitions)]
    sources.append((Path(__file__).parents[2] / "activities" / "monitor.py").read_text("utf-8"))
    titles = re.findall(r'title="([^"]+)"', "\n".join(sources))
    assert len(titles) >= 5
    assert [title for title in titles if f"| {title} (" not in TEXT] == []
