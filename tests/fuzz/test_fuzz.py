"""The whole API against its own document, by schemathesis, on a stack of its own: it registers, faults and deletes."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.begun import begun
from tests.stack_settings import stack_settings
from workers.stack.stack import Stack

HERE = Path(__file__).parent
LINKS = 25
"""The least number of the 58 kinds of steps from an answer to the next request that one of the walks takes."""
SEEDS = range(1, 9)
"""Seeds of the walks. One ends early where a repetition is answered otherwise, since the API has a state: 22 to 39
links."""


@pytest.fixture(scope="module")
async def spoilt(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A stack with a node that works: its types, 2 and 3, are those of the document's samples."""
    settings = stack_settings(begun(tmp_path_factory.mktemp("fuzz")), node_networks="127.0.0.0/8", monitor_interval=30)
    async with Stack(settings, nodes=1) as stack:
        yield stack


async def ask_everything(stack: Stack, phases: str, *more: str) -> str:
    """The output of schemathesis for a sound API in these phases. Examples bound it: a busy machine takes longer."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")),
        *("run", "--phases", phases, *more, f"{stack.api_url}/openapi.json"),
        env={
            **os.environ,
            "FUZZ_KEY": stack.api_key.secret.get_secret_value(),
            "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
        },
        cwd=HERE.parents[1],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    return output


@pytest.mark.timeout(600)
async def test_every_answer_is_one_that_the_document_knows(spoilt: Stack) -> None:
    await ask_everything(spoilt, "examples,coverage,fuzzing")
    taken = []
    for seed in SEEDS:
        output = await ask_everything(spoilt, "stateful", "--seed", str(seed))
        links = re.search(r"API Links: +(\d+) covered", output)
        assert links is not None, output
        taken.append(int(links[1]))
        if taken[-1] >= LINKS:
            return
    raise AssertionError(f"walks took {taken} kinds of steps, none {LINKS}")
