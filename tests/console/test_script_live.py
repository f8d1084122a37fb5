"""The console's script: live parts, and lists that stand still while a row is ticked."""

from __future__ import annotations

from playwright.async_api import expect

from api.console import rendering
from tests.console.script_server import REFUSED, Server


def rows(*names: str) -> str:
    """The content of the live part."""
    return "".join(f'<p id="{name}"><a href="#" id="a-{name}">{name}</a></p>' for name in names)


async def test_the_focus_stays_while_rows_go_and_move(server: Server) -> None:
    await server.open(f'<div id="part">{rows("one", "two", "three")}</div>')
    await server.page.focus("#a-two")
    server.update("x.2", part=rows("two", "three"))
    await expect(server.page.locator("#one")).to_have_count(0)
    await expect(server.page.locator("#a-two")).to_be_focused()
    server.parts.put_nowait((200, f'<div id="part">{rows("three", "new", "two")}</div>', "x.3"))
    await expect(server.page.locator("#new")).to_be_visible()
    await expect(server.page.locator("#a-two")).to_be_focused()


async def test_a_refusal_does_not_end_live_updates(server: Server) -> None:
    await server.open(f'<div id="part">{rows("old")}</div>')
    server.streams.put_nowait((429, ""))
    await expect(server.page.locator("#stale")).to_be_visible()
    server.parts.put_nowait((429, REFUSED, ""))
    server.parts.put_nowait((200, f'<div id="part">{rows("new")}</div>', "x.2"))
    await expect(server.page.locator("#new")).to_be_visible()
    await expect(server.page.locator("#stale")).to_be_hidden()
    server.update("x.3", part=rows("newest"))
    await expect(server.page.locator("#newest")).to_be_visible()


async def test_nothing_older_comes_last(server: Server) -> None:
    await server.open(f'<button data-call="POST /api/v2/x" data-done="d">Do</button><div id="part">{rows("old")}</div>')
    await server.page.get_by_role("button", name="Do").click()
    await expect(server.page.locator(".toast")).to_be_visible()  # the page is asked for now, and late
    async with server.page.expect_event("requestfinished", lambda one: "/console/live" in one.url):
        server.update("x.3", part=rows("newest"))
    server.parts.put_nowait((200, f'<div id="part">{rows("newer")}</div>', "x.2"))
    await expect(server.page.locator("#newest")).to_be_visible()
    await expect(server.page.locator("#newer")).to_have_count(0)


SEE = """(isSeen) => {
    Object.defineProperty(document, "hidden", { value: !isSeen, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_a_tab_that_nobody_sees_has_no_stream(server: Server) -> None:
    await server.open(f'<div id="part">{rows("old")}</div>')
    async with server.page.expect_event("requestfailed", lambda one: "/console/live" in one.url):
        await server.page.evaluate(SEE, False)
    server.parts.put_nowait((200, f'<div id="part">{rows("new")}</div>', "x.2"))
    async with server.page.expect_request("**/console/live?*version=x.2"):
        await server.page.evaluate(SEE, True)
    await expect(server.page.locator("#new")).to_be_visible()


async def test_a_page_that_is_not_live_is_left_as_it_is(server: Server) -> None:
    await server.open("<p>Sign in</p>", version="")
    for is_seen in (False, True):
        await server.page.evaluate(SEE, is_seen)
    await server.page.evaluate("new Promise((done) => setTimeout(done))")
    assert not [one for one in server.asked if one.endswith("part") or one == "/console/live"]


PARTS = rendering.environment("en").get_template("parts.html").module
COUNT = '<strong data-count="{n} ticked" data-count-all="All {n} that match" data-total="57"></strong>'
BAR = f"<div data-bar hidden>{COUNT}{PARTS.held()}</div>"  # type: ignore[attr-defined]


def picks(*names: str) -> str:
    """The content of a live list, of rows that can be ticked."""
    box = '<input type="checkbox" class="pick" value="{0}"><time datetime="2026-01-01T00:00:00Z">2026</time>'
    return "".join(f'<p id="{name}" data-row>{box.format(name)}</p>' for name in names)


def live(*names: str, total: int = 57) -> str:
    """A page with such a list."""
    every = '<button type="button" data-everything>Tick all</button>'
    return f'<p id="total" data-live>{total}{every}</p><div id="list" data-live>{picks(*names)}</div>{BAR}'


async def test_a_list_stands_still_while_a_row_is_ticked(server: Server) -> None:
    page = server.page
    await server.open(live("one", "two"))
    await page.check("#one input")
    server.update("x.2", list=picks("two", "three", "four"), total="58")
    await expect(page.locator("#total")).to_have_text("58")
    await expect(page.get_by_role("button", name="Show 2 new")).to_be_visible()
    server.parts.put_nowait((200, live("two", "three", "four", "five", total=59), "x.3"))
    await expect(page.get_by_role("button", name="Show 3 new")).to_be_visible()
    await expect(page.locator("[data-bar] strong")).to_have_text("1 ticked")
    await expect(page.locator("#one input")).to_be_checked()
    await page.click("#one input")
    await expect(page.locator("#five")).to_be_visible()
    await expect(page.locator("#one")).to_have_count(0)
    await expect(page.locator("[data-bar]")).to_be_hidden()


async def test_what_is_held_back_is_shown_when_asked_for(server: Server) -> None:
    await server.open(live("one", "two"))
    await server.page.check("#two input")
    server.update("x.2", list=picks("two", "three"))
    await server.page.get_by_role("button", name="Show 1 new").click()
    await expect(server.page.locator("#three")).to_be_visible()
    await expect(server.page.locator("#two input")).to_be_checked()


async def test_only_what_has_changed_is_held_back(server: Server) -> None:
    page, show = server.page, server.page.locator("[data-show]")
    await server.open(live("one", "two"))
    await page.check("#one input")
    server.streams.put_nowait((429, ""))
    server.parts.put_nowait((200, live("one", "two", total=58), "x.2"))
    await expect(page.locator("#total")).to_contain_text("58")
    await expect(show).to_be_hidden()
    server.update("x.3", list=picks("one", "two", "three"))
    await expect(show).to_be_visible()
    server.parts.put_nowait((200, live("one", "two"), "x.4"))
    await expect(show).to_be_hidden()


async def test_all_that_match_stay_chosen_while_rows_go(server: Server) -> None:
    page, said = server.page, server.page.locator("[data-bar] strong")
    await server.open(live("one"))
    await page.click("[data-everything]")
    await expect(said).to_have_text("All 57 that match")
    server.update("x.2", list="Nothing is left")
    await expect(page.get_by_role("button", name="Show changes")).to_be_visible()
    await expect(said).to_have_text("All 57 that match")
    await page.get_by_role("button", name="Show changes").click()
    await expect(page.locator("#list")).to_have_text("Nothing is left")
    await expect(said).to_have_text("All 57 that match")
    await page.click("[data-everything]")
    await expect(page.locator("[data-bar]")).to_be_hidden()


async def test_keys_that_mean_nothing_do_nothing_and_x_is_a_click(server: Server) -> None:
    errors: list[str] = []
    server.page.on("pageerror", lambda error: errors.append(str(error)))
    await server.open(live("one"))
    await server.page.click("[data-everything]")
    for key in ('"', "j", "x"):
        await server.page.keyboard.press(key)
    await expect(server.page.locator("[data-bar] strong")).to_have_text("1 ticked")
    assert errors == []


async def test_a_stream_that_is_silent_is_given_up(server: Server) -> None:
    await server.page.clock.install()
    await server.open(f'<div id="part">{rows("old")}</div>')
    await server.page.clock.fast_forward(39_000)
    await expect(server.page.locator("#stale")).to_be_hidden()
    await server.page.clock.fast_forward(2000)
    await expect(server.page.locator("#stale")).to_be_visible()
    server.parts.put_nowait((200, f'<div id="part">{rows("new")}</div>', "x.2"))
    await server.page.clock.fast_forward(1000)
    await expect(server.page.locator("#new")).to_be_visible()
