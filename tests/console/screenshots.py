"""`python -m tests.console.screenshots FOLDER`: every page of the console in both themes, and some in Chinese."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from playwright.async_api import Browser

from api.console.pages import PAGES
from infra.db.connection import Connection
from tests.browser import chromium
from tests.conftest import Api, MakeNode, callers, fleet, frontend
from tests.console import world
from tests.console.conftest import DESK, PHONE, Person, prefer, sign_in
from tests.console.test_pages import path_of
from tests.console.world import World
from tests.stack_settings import stack_settings
from workers.stack.stack import Stack

TYPES = (907, 908, 909)
MODELS = ("RTX 4090", "RTX 4090", "A100 80GB", "H200")
LOOKS = [("en", "light"), ("en", "dark"), ("zh", "light"), ("zh", "dark")]


async def take(folder: Path) -> None:
    """Start a stack, fill it, and look at it."""
    with tempfile.TemporaryDirectory() as data_dir:
        settings = stack_settings(Path(data_dir), heartbeat_timeout=40.0, cluster_id="studio-eu")
        async with (
            Stack(settings, nodes=0) as stack, frontend(stack) as api, fleet(api) as make_node, callers(stack) as make
        ):  # fmt: skip
            api.contract = None
            seen = await world.build(api, make_node)
            async with AsyncExitStack() as held:
                await _crowd(api, make_node, held)
                await world.with_database(api, _last_hour)
                async with chromium() as browser:
                    for language, theme in LOOKS:
                        await _look(api, browser, seen, folder, language, theme)
                        await _look_as_user(api, browser, (await make("user", "user_1")).key, folder, language, theme)


async def _crowd(api: Api, make_node: MakeNode, held: AsyncExitStack) -> None:
    """Twelve nodes with four slots, most of them busy, and work that waits."""
    chance = random.Random(7)
    nodes = [
        await make_node(
            f"gpu_{10 + n}",
            [TYPES[n % 3]],
            maxConcurrentTasks=4,
            metadata={"gpuModel": MODELS[n % 4]},
            hostname=f"rack{n % 3}",
        )
        for n in range(12)
    ]
    bodies = [
        {"taskType": TYPES[n % 3], "userId": f"user_{n % 7}", "app": ("studio", "batch", "preview")[n % 5 % 3],
         "payload": json.dumps({"prompt": "a lighthouse"}), "priority": 1 + (n % 6 == 0), "timeout": 3_600_000}
        for n in range(90)
    ]  # fmt: skip
    await api.post("/tasks/batch", {"tasks": bodies})
    for node in nodes:
        while True:
            try:
                put = await asyncio.wait_for(node.next_put(), 3)
            except TimeoutError:
                break
            await api.say(put, "PROCESSING", progress=chance.randrange(5, 95))


async def _last_hour(connection: Connection) -> None:
    """Completed and failed tasks of the last hour on these nodes, with their attempts."""
    await connection.execute(
        """
        INSERT INTO tasks (task_id, task_type, status, user_id, app, priority, queue_class, payload, timeout_ms,
                           max_retries, queue_rank, created_at, started_at, completed_at, engine_started_at,
                           attempts)
        SELECT 'past_' || i, 907 + i %% 3, CASE WHEN i %% 23 = 0 THEN 'FAILED' ELSE 'COMPLETED' END, 'user_' || i %% 7,
               (ARRAY['studio', 'batch', 'preview'])[1 + i %% 3], 1, 0, '{}', 60000, 0, 0,
               at - make_interval(secs => took + 20), at - make_interval(secs => took), at, at, 1
          FROM (SELECT i, 12 + abs(hashint4(i)) %% 70 AS took,
                       clock_timestamp() - make_interval(secs => 5 + (i / 48) * 92 + abs(hashint4(i + 7)) %% 12) AS at
                  FROM generate_series(1, 1700) i) g
        """
    )
    await connection.execute(
        "UPDATE tasks SET gpu_id = 'gpu_' || 10 + CAST(substr(task_id, 6) AS integer) %% 12"
        " WHERE task_id ~ '^past_[0-9]+$'"
    )
    await connection.execute(
        """
        INSERT INTO attempts (task_id, attempt, gpu_id, gpu_epoch, slot, token, ip, port, claimed_at, accepted_at,
                              closed_at, released_at, collected_at, outcome, reason)
        SELECT task_id, 1, gpu_id, 1, 1 + (display_id / 12) %% 4, 'past-' || task_id, '127.0.0.1', 1, started_at,
               started_at, completed_at, completed_at, completed_at,
               CASE status WHEN 'FAILED' THEN 'FAILED' ELSE 'SUCCEEDED' END,
               CASE status WHEN 'FAILED' THEN 'model server closed the connection after ' || display_id || ' ms' END
          FROM tasks WHERE task_id ~ '^past_[0-9]+$'
        """
    )


async def _look(api: Api, browser: Browser, seen: World, folder: Path, language: str, theme: str) -> None:
    for name, viewport in (("desk", DESK), ("phone", PHONE)):
        if name == "phone" and (language, theme) != ("en", "light"):
            continue
        context = await browser.new_context(viewport=viewport, device_scale_factor=1)  # type: ignore[arg-type]
        await prefer(context, api.stack.api_url, language, theme)
        person = Person(await context.new_page(), api.stack.api_url)
        await person.open("/sign-in")
        await person.page.screenshot(path=folder / f"sign_in-{name}-{language}-{theme}.png")
        await sign_in(person, api.key)
        paths = {page.name: path_of(page.path, seen) for page in PAGES}
        paths |= {
            "task_running": f"/tasks/{seen.running}",
            "task_waiting": f"/tasks/{seen.waiting}",
            "task_failed": f"/tasks/{seen.failed}",
        }
        for page, path in paths.items():
            await person.open(path)
            await person.page.wait_for_timeout(150)
            await person.page.screenshot(path=folder / f"{page}-{name}-{language}-{theme}.png", full_page=True)
        await context.close()


async def _look_as_user(api: Api, browser: Browser, key: str, folder: Path, language: str, theme: str) -> None:
    for name, viewport in (("desk", DESK), ("phone", PHONE)):
        context = await browser.new_context(viewport=viewport, device_scale_factor=1)  # type: ignore[arg-type]
        await prefer(context, api.stack.api_url, language, theme)
        person = Person(await context.new_page(), api.stack.api_url)
        await sign_in(person, key)
        await person.page.screenshot(path=folder / f"now_of_user-{name}-{language}-{theme}.png", full_page=True)
        await context.close()


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots")
    where.mkdir(parents=True, exist_ok=True)
    asyncio.run(take(where))
