"""Actions of a person at the console, by mouse and keyboard, and their effects."""

from __future__ import annotations

import re
import signal

from playwright.async_api import expect

from infra.db.access import api_keys
from infra.db.access.audit import Actor
from infra.db.connection import Connection
from infra.db.ops import alerts
from infra.db.ops.alerts import NewAlert
from tests.conftest import Api, MakeNode
from tests.console import world
from tests.console.conftest import Visit
from tests.console.world import HOSTILE, World
from workflows.domain.alert import AlertLevel

BULK, STEERED = 906, 910


async def test_a_bulk_cancel_says_its_number_first(visit: Visit, the_world: World, api: Api) -> None:
    bodies = [{"taskType": BULK, "userId": "u", "app": "bulk", "payload": "{}"} for _ in range(57)]
    await api.post("/tasks/batch", {"tasks": bodies})
    person = await visit()
    await person.open("/tasks?app=bulk&status=QUEUED")
    await expect(person.page.locator("#total")).to_contain_text("57")
    await person.page.locator("input.every").check()
    await expect(person.page.locator(".bar strong")).to_have_text("50 ticked")
    await person.page.locator("[data-everything]").click()
    await expect(person.page.locator(".bar strong")).to_have_text("All 57 that match")
    await person.page.get_by_role("button", name="Cancel", exact=True).click()
    verb = person.page.locator("#ask-verb")
    await expect(verb).to_have_text("Cancel 57 tasks")
    assert int((await api.http.get("/tasks?app=bulk&status=QUEUED")).headers["X-Total-Count"]) == 57
    await verb.click()
    await expect(person.page.locator(".toast")).to_have_text("57 of 57 done", timeout=20_000)
    await expect(person.page.locator("#total")).to_contain_text("0 match", timeout=20_000)
    assert person.complaints == []


async def test_one_task_is_cancelled_retried_and_moved(visit: Visit, api: Api, the_world: World) -> None:
    task = await api.create(BULK, app="single")
    person = await visit()
    await person.open(f"/tasks/{task}")
    await person.page.get_by_role("button", name="Priority").click()
    await person.page.fill("#ask-number input", "5")
    await person.page.click("#ask-verb")
    await expect(person.page.locator(".who-what")).to_contain_text("priority 5")
    await person.page.get_by_role("button", name="Cancel").click()
    await person.page.click("#ask-verb")
    await expect(person.page.locator("h1")).to_contain_text("Cancelled")
    await person.page.locator("main").get_by_role("button", name="Retry", exact=True).click()
    await person.page.wait_for_url(re.compile(rf"/console/tasks/(?!{task})"))
    await expect(person.page.locator("h1")).to_contain_text("Queued")
    await expect(person.page.locator("main .facts")).to_contain_text("Retry of")
    entries = await api.get("/audit?action=task.cancel&size=100")
    assert task in [one["subject"] for one in entries]


async def test_a_verdict_names_the_node(visit: Visit, the_world: World) -> None:
    person = await visit()
    await person.open("/failures")
    bad = person.page.locator("section.signature").filter(has_text="CUDA error 700 at #")
    await expect(bad).to_contain_text("10 of the last 10 on gpu_07 failed")
    await expect(bad).to_contain_text("The node")
    await expect(bad.get_by_role("button", name="Mark as faulty")).to_have_count(0)  # it is FAULTY already
    await expect(bad.get_by_role("link", name="Faulty gpu_07")).to_be_visible()
    poison = person.page.locator("section.signature").filter(has_text="no such model v#")
    await expect(poison).to_contain_text("The task")


async def test_a_hostile_name_does_nothing(visit: Visit, the_world: World) -> None:
    person = await visit()
    for path in ("/tasks?taskType=905", "/queue?taskType=905"):
        await person.open(path)
        await expect(person.page.locator("bdi", has_text=HOSTILE[:20]).first).to_be_attached()
        assert await person.page.evaluate("() => [window.hacked, document.querySelectorAll('main img').length]") == [
            None,
            0,
        ]
    assert person.complaints == []


async def test_a_picture_is_shown(visit: Visit, the_world: World) -> None:
    person = await visit()
    await person.open(f"/tasks/{the_world.completed}")
    assert await person.page.locator(".pictures img").evaluate("one => [one.naturalWidth, one.naturalHeight]") == [
        96,
        64,
    ]


async def test_progress_and_new_tasks_come_by_themselves(visit: Visit, the_world: World, api: Api) -> None:
    person = await visit()
    await person.open(f"/tasks?taskType={BULK}&app=live")
    await person.page.evaluate("() => { window.same = document.getElementById('content'); scrollTo(0, 40); }")
    task = await api.create(BULK, app="live")
    await expect(person.page.locator(f"#t-{task}")).to_be_visible(timeout=5000)
    await api.post(f"/tasks/{task}/cancel")
    await expect(person.page.locator(f"#t-{task}")).to_contain_text("Cancelled", timeout=5000)
    assert await person.page.evaluate("() => window.same === document.getElementById('content')")


async def test_the_keyboard(visit: Visit, the_world: World) -> None:
    person = await visit()
    await person.open("/tasks")
    keyboard, page = person.page.keyboard, person.page
    await keyboard.press("/")
    await expect(page.locator("[data-search]")).to_be_focused()
    await keyboard.press("Escape")
    await keyboard.press("j")
    await keyboard.press("j")
    await expect(page.locator("tbody tr").nth(1)).to_be_focused()
    await keyboard.press("k")
    await keyboard.press("x")
    await expect(page.locator("tbody tr").nth(0).locator("input.pick")).to_be_checked()
    await expect(page.locator(".bar strong")).to_have_text("1 ticked")
    await keyboard.press("?")
    await expect(page.locator("#keys")).to_be_visible()
    await keyboard.press("Escape")
    await keyboard.press("g")
    await keyboard.press("q")
    await page.wait_for_url("**/console/queue")


async def test_a_revoked_key_signs_out(visit: Visit, make_caller, api: Api, the_world: World) -> None:
    caller = await make_caller("operator", "leaver")
    person = await visit(key=caller.key)
    await person.open("/queue")

    async def revoke(connection: Connection) -> None:
        await api_keys.revoke(connection, caller.made.key_id, Actor(None, "tests", None))

    await world.with_database(api, revoke)
    await person.page.wait_for_url("**/console/sign-in*", timeout=3500)  # two seconds, and a slow machine
    await expect(person.page.get_by_text("The session has ended")).to_be_visible()


async def test_the_page_stays_while_the_api_is_away(visit: Visit, the_world: World, api: Api) -> None:
    person = await visit()
    await person.open(f"/tasks?taskType={BULK}&app=after")
    api.stack.part("api").kill()
    await expect(person.page.locator("#stale")).to_be_visible()
    await expect(person.page.locator("h1")).to_have_text("Tasks")
    await api.stack.part("api").until_ready(60)
    await expect(person.page.locator("#stale")).to_be_hidden(timeout=20_000)
    task = await api.create(BULK, app="after")
    await expect(person.page.locator(f"#t-{task}")).to_be_visible(timeout=10_000)


async def test_a_page_says_that_the_api_is_silent(visit: Visit, the_world: World, api: Api) -> None:
    person = await visit()
    await person.page.clock.install()
    await person.open(f"/tasks?taskType={BULK}&app=silent")
    stale = person.page.locator("#stale")
    api.stack.part("api").kill(signal.SIGSTOP)
    try:
        await person.page.clock.fast_forward(41_000)
        await expect(stale).to_contain_text("Live updates stopped")
        await expect(person.page.locator("h1")).to_have_text("Tasks")
    finally:
        api.stack.part("api").kill(signal.SIGCONT)
    await expect(stale).to_be_hidden(timeout=20_000)
    task = await api.create(BULK, app="silent")
    await expect(person.page.locator(f"#t-{task}")).to_be_visible(timeout=10_000)


async def test_a_node_is_drained_marked_as_faulty_and_recovered(visit: Visit, make_node: MakeNode, api: Api) -> None:
    await make_node("gpu_40", [STEERED])
    person = await visit()
    await person.open("/nodes/gpu_40")
    page, state = person.page, person.page.locator("#node-head .st").first

    async def do(name: str, reason: str | None = None) -> None:
        await page.locator("#node-head").get_by_role("button", name=name, exact=True).click()
        if reason is not None:
            await page.fill("#ask-reason input", reason)
        if await page.locator("#ask").is_visible():
            await page.click("#ask-verb")

    await do("Drain", "new driver")
    await expect(state).to_have_text("Draining")
    await expect(page.locator("#node-said")).to_contain_text("new driver")
    await page.locator(".toast").get_by_role("button", name="Undo").click()
    await expect(state).to_have_text("Active")
    await expect(page.locator(".toast")).to_have_text("Undone")
    await do("Mark as faulty", "ECC errors")
    await expect(state).to_have_text("Faulty")
    await expect(page.locator("#node-said")).to_contain_text("ECC errors")
    await do("Recover")
    await expect(state).to_have_text("Active")
    entries = await api.get("/audit?size=100")
    done = [one["action"] for one in entries if one["subject"] == "gpu_40"]
    assert [one for one in done[::-1] if one != "gpu.register"] == [
        "gpu.drain",
        "gpu.undrain",
        "gpu.fault",
        "gpu.recover",
    ]
    assert person.complaints == []


async def test_many_alerts_are_acknowledged_at_once(visit: Visit, the_world: World, api: Api) -> None:
    async def raise_some(connection: Connection) -> None:
        for n in range(3):
            await alerts.raise_alert(connection, NewAlert(f"test:{n}", f"alert {n}", "m", AlertLevel.INFO, "test"))

    await world.with_database(api, raise_some)
    person = await visit()
    await person.open("/alerts?level=INFO")
    page = person.page
    for n in range(3):
        await page.locator("tr", has_text=f"alert {n}").locator("input.pick").check()
    bar = page.locator("[data-bar]")
    await expect(bar.locator("strong")).to_have_text("3 ticked")
    await bar.get_by_role("button", name="Acknowledge").click()
    verb = page.locator("#ask-verb")
    await expect(verb).to_have_text("Acknowledge 3 alerts")
    await expect(page.locator("tr", has_text="alert 0")).to_be_visible()
    await verb.click()
    await expect(page.locator(".toast")).to_have_text("3 alerts acknowledged")
    await expect(page.locator("tr", has_text="alert ")).to_have_count(0)
    await expect(bar).to_be_hidden()
    assert person.complaints == []
