"""A database as another process than the stack's own programs sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from infra.db.session import Database
from workers.stack.stack import Stack


@pytest.fixture
async def database(stack: Stack) -> AsyncIterator[Database]:
    """A process of its own, as far as Postgres can tell."""
    found = Database(stack.services.database_url, connections=4)
    yield found
    await found.close()
