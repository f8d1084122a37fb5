"""Corners that the tour of all pages leaves out: the way in, dialogs, empty states, the pages of a user."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect

from api.console.pages import PAGES
from tests.conftest import Api
from tests.console.conftest import Person, Visit, prefer
from tests.console.test_pages import path_of
from tests.console.world import HOSTILE, WAITS, World
from workflows.domain.role import Role

LOOKS = [("en", "light"), ("zh", "dark")]
EMPTY = (
    "/fleet?q=nobody",
    "/queue?taskType=1",
    "/tasks?app=nobody",
    "/alerts?status=ACKNOWLEDGED",
    "/audit?owner=nobody",
)
OF_USERS = [page for page in PAGES if Role.USER in page.roles]


async def look(person: Person, paths: list[str]) -> dict[str, Any]:
    """Look for faults of pages, whatever their status."""
    found = {}
    for path in paths:
        await person.page.goto(f"{person.url}/console{path}")
        if wrong := await person.faults():
            found[path] = wrong
    return found


@pytest.mark.parametrize(("language", "theme"), LOOKS)
async def test_the_way_in(browser, api: Api, language: str, theme: str) -> None:
    context = await browser.new_context()
    await prefer(context, api.stack.api_url, language, theme)
    person = Person(await context.new_page(), api.stack.api_url)
    link = (await api.http.post(f"{person.url}/console/links")).json()["data"]["path"].removeprefix("/console")
    assert await look(person, ["/sign-in", link]) == {}
    await person.open("/sign-in")
    await person.page.fill("#key", "no key")
    await person.page.click("button.primary")
    await expect(person.page.get_by_role("alert")).to_be_visible()
    assert await person.faults() == []
    await context.close()


@pytest.mark.parametrize(("language", "theme"), LOOKS)
async def test_empty_states_and_errors(visit: Visit, the_world: World, language: str, theme: str) -> None:
    person = await visit(language, theme)
    assert await look(person, [*EMPTY, "/tasks/nobody", "/nodes/nobody", "/nothing", "/tasks?taskType=x"]) == {}


@pytest.mark.parametrize(("language", "theme"), LOOKS)
async def test_dialogs_and_toasts(visit: Visit, the_world: World, language: str, theme: str) -> None:
    person = await visit(language, theme)
    page, found = person.page, {}
    await person.open(f"/nodes/{the_world.node}")
    await page.locator("[data-call$='/drain']").click()
    await expect(page.locator("#ask")).to_be_visible()
    found["a question with a reason"] = await person.faults()
    await page.keyboard.press("Escape")
    await page.keyboard.press("?")
    await expect(page.locator("#keys")).to_be_visible()
    found["the list of keys"] = await person.faults()
    await page.keyboard.press("Escape")
    await person.open(f"/tasks/{the_world.waiting}")
    await page.locator("main [data-number]").click()
    found["a question for a number"] = await person.faults()
    await page.locator("#ask-verb").click()  # the priority that it has
    await expect(page.locator(".toast")).to_be_visible()
    found["a toast"] = await person.faults()
    await person.open(f"/webhooks/{the_world.webhook}")
    await page.locator("[data-call$='/rotate']").click()
    await page.locator("#ask-verb").click()
    await expect(page.locator("#secret")).to_be_visible()
    found["a secret"] = await person.faults()
    assert {name: one for name, one in found.items() if one} == {}
    assert person.complaints == []


@pytest.mark.parametrize(("language", "theme"), LOOKS)
async def test_the_pages_of_a_user(visit: Visit, the_world: World, make_caller, language: str, theme: str) -> None:
    owner = f"ada_{language}"
    user = await make_caller("user", owner)
    person = await visit(language, theme, key=user.key)
    assert await look(person, [page.path for page in OF_USERS if "{" not in page.path]) == {}  # all of them empty
    task = await user.create(WAITS, userId=owner, app=HOSTILE)
    hook = await user.post("/webhooks", {"url": "http://127.0.0.1:9/user", "events": ["task.ended"]})
    own = World(task, task, task, task, "", hook["webhookId"])
    assert await look(person, [path_of(page.path, own) for page in OF_USERS]) == {}
    await person.open("/now")
    await expect(person.page.locator("main [data-row]")).to_contain_text(task[:6])
    assert await person.page.locator("main a[href*='/nodes/'], main a[href*='/fleet']").count() == 0
    await user.ask("DELETE", f"/webhooks/{hook['webhookId']}")
    assert person.complaints == []
