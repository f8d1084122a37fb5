"""Every page in both languages and both themes: for everybody, on every screen, and quiet in the browser."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import expect

from api.console.pages import PAGES
from tests.console.conftest import Visit
from tests.console.world import World

KINDS = [(language, theme) for language in ("en", "zh") for theme in ("light", "dark")]
FEW = {"tasks": "?taskType=905", "queue": "?taskType=905", "audit": "?action=gpu.drain"}
"""Rows enough: axe looks at each."""


def path_of(path: str, seen: World) -> str:
    """A page's address, with what there is of each kind."""
    return path.format(task_id=seen.completed, gpu_id=seen.node, webhook_id=seen.webhook, node_id=seen.node)


@pytest.mark.parametrize(("language", "theme"), KINDS)
async def test_every_page(visit: Visit, the_world: World, language: str, theme: str) -> None:
    person = await visit(language, theme)
    found = {}
    for page in PAGES:
        await person.open(path_of(page.path, the_world) + FEW.get(page.name, ""))
        if wrong := await person.faults(on_phone=theme == "light"):
            found[page.name] = wrong
    assert not found, json.dumps(found, indent=1)
    assert person.complaints == []
    assert await person.page.evaluate("() => document.documentElement.lang") == {"en": "en", "zh": "zh-CN"}[language]


async def test_the_first_page_is_small(visit: Visit, the_world: World) -> None:
    """The first page includes stylesheet, script and icon, as they come over the wire."""
    person, sizes = await visit(), []
    network = await person.page.context.new_cdp_session(person.page)
    network.on("Network.loadingFinished", lambda one: sizes.append(one["encodedDataLength"]))
    await network.send("Network.enable")
    await network.send("Network.setCacheDisabled", {"cacheDisabled": True})
    await person.open("/now")
    assert len(sizes) >= 3
    assert sum(sizes) <= 100 * 1024


async def test_a_page_for_each_state_of_a_task(visit: Visit, the_world: World) -> None:
    person = await visit("zh", "dark")
    for task_id, word in [(the_world.failed, "失败"), (the_world.running, "执行中"), (the_world.waiting, "排队中")]:
        await person.open(f"/tasks/{task_id}")
        assert word in await person.page.inner_text("h1")
        assert await person.faults() == []
    assert person.complaints == []


async def test_a_user_sees_their_own_tasks_and_no_node(visit: Visit, the_world: World, make_caller) -> None:
    user = await make_caller("user", "user_1")
    own = await user.create(905, userId="user_1", app="mine")
    person = await visit(key=user.key)
    links = await person.page.locator(".rail nav a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert links == ["/console/now", "/console/queue", "/console/tasks", "/console/webhooks"]
    assert person.page.url.endswith("/console/now")
    await expect(person.page.locator("#health")).to_contain_text("tasks of type 905 wait: no node runs this type")
    await person.open("/tasks")
    owners = await person.page.locator("main tbody tr td:nth-child(6)").all_inner_texts()
    assert owners
    assert set(owners) == {"user_1"}
    await person.open(f"/tasks/{own}")
    strange = [("/tasks/%00", 404), ("/tasks?taskId=%00", 400), ("/tasks?taskType=x", 200)]
    for path, status in [(f"/tasks/{the_world.completed}", 404), ("/failures", 403), ("/keys", 403), *strange]:
        answer = await person.page.goto(f"{person.url}/console{path}")
        assert answer is not None
        assert answer.status == status, path
