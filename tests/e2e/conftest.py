"""Tests that wait for most of their time run side by side."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from temporalio.client import Client

from tests.conftest import Api, callers, fleet
from workers.stack.stack import Stack

Test = Callable[..., Coroutine[Any, Any, None]]
Begun = dict[str, asyncio.Task[None]]
AT_ONCE = 4
"""Tests that run at a time: with more, nodes of a loaded machine would miss their heartbeats."""


def side_by_side(test: Test) -> Test:
    """Run a test together with others of its file that are marked so; the first begins them all, four at a time.

    Such a test has task types and nodes of its own. It may use only what `together` gives. No test of the file between
    the marked ones stops a part of the stack.
    """

    async def awaited(together: Begun) -> None:
        await together[test.__name__]

    awaited.__name__, awaited.__doc__ = test.__name__, test.__doc__
    awaited.__dict__["begins"] = test
    return awaited


@pytest.fixture(scope="module")
async def together(request: pytest.FixtureRequest, api: Api, stack: Stack, temporal: Client) -> AsyncIterator[Begun]:
    """The chosen tests of the file that run side by side, by their names."""
    items = [item for item in request.session.items if item.path == request.path]
    chosen: list[Test] = [test for item in items if (test := getattr(getattr(item, "obj", None), "begins", None))]
    shared: dict[str, Any] = {"api": api, "stack": stack, "temporal": temporal}
    turns = asyncio.Semaphore(AT_ONCE)

    async def begin(test: Test) -> None:
        async with turns, fleet(api) as make_node, callers(stack) as make_caller:
            given = shared | {"make_node": make_node, "make_caller": make_caller}
            await test(**{name: given[name] for name in inspect.signature(test).parameters})

    begun = {one.__name__: asyncio.create_task(begin(one)) for one in chosen}
    yield begun
    for task in begun.values():
        task.cancel()
    await asyncio.gather(*begun.values(), return_exceptions=True)
