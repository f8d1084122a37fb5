"""The previous version, this one, and back again, on one database with tasks under way: none of them is lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Api, fleet, frontend
from tests.fake_node import FakeNode, Put
from tests.stack_settings import stack_settings
from workers.stack import programs
from workers.stack.logs import console
from workers.stack.part import Part, PartSpec
from workers.stack.stack import Stack

BEFORE = "871344b"
"""The last version whose programs migrated when they started; its schema is that of revision 0010."""
ROOT = Path(__file__).parents[2]
PUT_OFF = {"ORCHESTRATOR_FIRST_LOOKS": "0.01"}
TYPE = 77
WITHIN_S = 40


def before(folder: Path) -> Path:
    """The programs of the previous version, in a folder of their own."""
    archive = subprocess.run(("git", "-C", str(ROOT), "archive", BEFORE), capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"the history does not reach back to {BEFORE}")
    subprocess.run(("tar", "--extract", "--directory", str(folder)), input=archive.stdout, check=True)
    return folder


def of_before(spec: PartSpec, folder: Path) -> PartSpec:
    """The same program of the previous version: `-P` leaves our own folder out of the path.

    One of its waiting tasks looks for a slot at once, and the first steps of the others are put off by 15 min or more.
    """
    python, *words = spec.argv
    assert spec.env is not None
    return replace(spec, argv=(python, "-P", *words), env={**spec.env, "PYTHONPATH": str(folder), **PUT_OFF})


@dataclass
class Programs:
    """The worker and the API of one version or the other, over the same services."""

    stack: Stack
    folder: Path
    running: dict[str, Part] = field(default_factory=dict)

    def _part(self, name: str, *, old: bool) -> Part:
        env = programs.environment(
            self.stack.settings, self.stack.services, self.stack.data_dir, self.stack.api_key.secret
        )
        waves = programs.programs(self.stack.settings, self.stack.services, env)
        (spec,) = [one for wave in waves for one in wave if one.name == name]
        return Part(of_before(spec, self.folder) if old else spec, self.stack.data_dir, console())

    async def put(self, name: str, *, old: bool) -> None:
        """Stop the program that runs under this name, and start the other version's."""
        await self.stop(name)
        self.running[name] = self._part(name, old=old)
        self.running[name].start()
        await self.running[name].until_ready(WITHIN_S)

    async def put_both(self, *, old: bool) -> None:
        await asyncio.gather(self.put("worker", old=old), self.put("api", old=old))

    async def migrate(self) -> None:
        await self.put("migrate", old=False)
        await self.stop("migrate")

    async def stop(self, *names: str) -> None:
        for name in names or tuple(self.running):
            if name in self.running:
                await self.running.pop(name).stop()


@asynccontextmanager
async def programs_over(folder: Path) -> AsyncIterator[Programs]:
    source = folder / "before"
    source.mkdir()
    before(source)
    async with Stack(stack_settings(folder / "data", heartbeat_timeout=60), with_programs=False) as stack:
        found = Programs(stack, source)
        try:
            yield found
        finally:
            await found.stop()


async def end(api: Api, node: FakeNode, *expected: str) -> Put:
    """The node's next task succeeds; the API may still be starting."""
    put = await node.next_put(WITHIN_S)
    assert put.task_id in expected
    assert await api.succeed(put, {"of": put.task_id}) is not None
    await api.until(put.task_id, "COMPLETED")
    return put


def test_the_version_before_is_what_runs(tmp_path: Path) -> None:
    folder = before(tmp_path)
    spec = of_before(PartSpec("x", (sys.executable, "-c", "import workers; print(*workers.__path__)"), env={}), folder)
    answer = subprocess.run(spec.argv, env=dict(spec.env or {}), capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == str(folder / "workers")


async def test_an_upgrade_a_step_back_and_an_upgrade(tmp_path: Path) -> None:
    async with programs_over(tmp_path) as both:
        await both.put_both(old=True)
        async with frontend(both.stack) as api, fleet(api) as make_node:
            api.contract = None  # each version answers as its own document says
            node = await make_node("upgraded", [TYPE])
            waiting = [await api.create(TYPE) for _ in range(5)]
            running = await node.next_put(WITHIN_S)
            await both.migrate()
            assert await api.succeed(running, {}) is not None  # the old programs go on with the new schema
            await api.until(running.task_id, "COMPLETED")
            await both.put("worker", old=True)  # and one that restarts in the middle of it
            await end(api, node, *waiting)
            await both.put("worker", old=False)
            await both.put("api", old=False)
            await end(api, node, *waiting)
            waiting.append(await api.create(TYPE, '{"by": "the new version"}'))
            await both.put_both(old=True)
            await end(api, node, *waiting)
            waiting.append(await api.create(TYPE, '{"by": "the previous version"}'))
            await end(api, node, *waiting)
            await both.migrate()
            await both.put_both(old=False)
            for _ in range(2):
                await end(api, node, *waiting)
            assert node.puts.empty()
            tasks: Any = [await api.get(f"/tasks/{task_id}") for task_id in waiting]
            assert {(one["status"], one["retryCount"]) for one in tasks} == {("COMPLETED", 0)}
