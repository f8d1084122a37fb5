"""One agent that is shared, and an orchestrator for agents of a test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.e2e.fake_orchestrator import FakeOrchestrator, fake_orchestrator
from tests.e2e.node.agent import COMMANDS, HANDLERS, Agent, arguments, running, work


@pytest.fixture(scope="package")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Agent]:
    """One agent with two slots and all the work, for tests that leave it as they found it."""
    folder = tmp_path_factory.mktemp("node")
    options = ["--slots", "2", "--state-dir", str(folder / "state"), *work(*HANDLERS, *COMMANDS)]
    async with (
        fake_orchestrator() as orchestrator,
        running(orchestrator, folder, arguments(orchestrator.url, "gpu_s", *options)) as agent,
    ):
        yield agent


@pytest.fixture
async def orchestrator() -> AsyncIterator[FakeOrchestrator]:
    async with fake_orchestrator() as fake:
        yield fake
