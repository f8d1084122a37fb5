"""Two real agents with one gpuId on the real stack: the last one has it, and the first one again when that is gone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Api
from tests.e2e.inside import select
from tests.e2e.node.agent import GATED, arguments, gate, launched, until, until_exists, work


@pytest.fixture
async def forgotten(api: Api) -> AsyncIterator[None]:
    """The node is gone after the test, also after one that fails: the others count the fleet."""
    yield
    await api.http.delete("/gpus/displaced")


@pytest.mark.usefixtures("forgotten")
async def test_the_displaced_agent_takes_over_when_the_other_is_killed(api: Api, tmp_path: Path) -> None:
    env = {"ORCHESTRATOR_NODE_KEY": api.key}
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    options = arguments(api.stack.api_url, "displaced", "--slots", "1", *work(GATED))

    async def epoch() -> int:
        return int((await select(api.stack, "SELECT epoch FROM gpus WHERE gpu_id = 'displaced'"))[0]["epoch"])

    def gives_way() -> bool:
        return "giving way" in (folders[0] / "agent.log").read_text()

    async with launched(folders[0], options, env):
        before = await epoch()
        async with launched(folders[1], options, env) as (second, _):
            await until(gives_way, "the first gives way")
            assert await epoch() == before + 1
            second.kill()
            await second.wait()

        async def is_back() -> bool:
            return await epoch() == before + 2

        await until(is_back, "a third registration")
        assert await api.alerts("displaced"), "it waited until the node was OFFLINE, however short that was"
        await api.gpu_until("displaced", "ACTIVE")
        input, here, go = gate(tmp_path, "work")
        task_id = await api.create(GATED, json.dumps(input))
        await until_exists(here)
        go.touch()
        task = await api.until(task_id, "COMPLETED")
        assert (task["gpuId"], task["retryCount"], await epoch()) == ("displaced", 0, before + 2)
