"""The statements of docs/operations.md run, and do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from infra.data_dir import embedded
from infra.db.nodes import transitions as node_transitions
from infra.db.ops import alerts
from tests.db.conftest import NAME
from tests.db.sessions import Sessions
from workers.stack.stack import Stack

DOCS = Path(__file__).parents[2] / "docs"
TEXT, ALERTS = ((DOCS / name).read_text("utf-8") for name in ("operations.md", "alerts.md"))
BLOCKS = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)


def block(words: str) -> str:
    (found,) = [one for one in BLOCKS if words in one]
    return found


@pytest.fixture
async def session(stack: Stack, engine: Sessions) -> psycopg.AsyncConnection:
    """A connection to the tests' own database, which the other fixture has made."""
    url = embedded.postgres_url(stack.data_dir, NAME).replace("postgresql+psycopg", "postgresql")
    return await psycopg.AsyncConnection.connect(url, autocommit=True)


@pytest.mark.parametrize("words", ["INSERT INTO outbox", "pg_total_relation_size"])
async def test_the_others_run(session: psycopg.AsyncConnection, words: str) -> None:
    async with session:
        await session.execute(block(words))


def test_every_alert_is_explained() -> None:
    sources = [Path(str(module.__file__)).read_text("utf-8") for module in (alerts, node_transitions)]
    sources.append((Path(__file__).parents[2] / "activities" / "monitor.py").read_text("utf-8"))
    titles = re.findall(r'title="([^"]+)"', "\n".join(sources))
    assert len(titles) >= 5
    assert [title for title in titles if f"| {title} (" not in ALERTS] == []
