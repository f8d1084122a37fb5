"""Only the console's script: pages, streams and answers are made here, so that each can be late, lost or refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TypeVar
from unittest.mock import MagicMock
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, Route, expect

from api.console import assets, rendering
from workflows.domain.role import Role

T = TypeVar("T")
HOST = "http://console.test"
REFUSED = json.dumps({"code": 429, "message": "请求过于频繁", "data": None})
ACTION = (
    '{% from "parts.html" import action %}{{ action("Drain", "POST /api/v2/gpus/g/drain", "Drained",'
    ' confirm="Drain?", verb="Drain it", reason="body") }}'
)


def rows(*names: str) -> str:
    """The content of the live part."""
    return "".join(f'<p id="{name}"><a href="#" id="a-{name}">{name}</a></p>' for name in names)


class Server:
    """The server that the browser reaches. A stream or page waits until there is an answer for it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.parts: asyncio.Queue[tuple[int, str, str]] = asyncio.Queue()
        """Status, body and version of pages without their frame."""
        self.streams: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self.asked: list[str] = []
        self.calls: list[object] = []
        self.answers: list[tuple[int, str, object]] = []
        """Status, message and data of the API's next answers; then it has done everything."""
        self.over = asyncio.Event()

    async def open(self, content: str, version: str = "x.1", language: str = "en") -> None:
        """Go to a page with this content."""
        template = rendering.environment(language).get_template("frame.html")
        self._html = template.render(
            content=content, page=None, pages=[], language=language, theme="", here="/console/p", cluster="c",
            caller=MagicMock(owner="o", key_id="k", role=Role.ADMIN), version=version, title=None,
        )  # fmt: skip
        await self.page.route(f"{HOST}/**", self._answer)
        await self.page.goto(f"{HOST}/console/p")

    async def _answer(self, route: Route) -> None:
        path = urlsplit(route.request.url).path
        self.asked.append(path + (" part" if "x-part" in route.request.headers else ""))
        if path == "/console/live":
            status, body = await self._next(self.streams, (503, ""))
            await route.fulfill(status=status, body=body, content_type="text/event-stream")
        elif path.startswith("/console/static/"):
            await route.fulfill(path=assets.FOLDER / path.rpartition("/")[2])
        elif path.startswith("/api/"):
            self.calls.append(route.request.post_data_json)
            code, message, data = self.answers.pop(0) if self.answers else (200, "success", {})
            await route.fulfill(status=code, json={"code": code, "message": message, "data": data})
        elif "x-part" in route.request.headers:
            status, body, version = await self._next(self.parts, (503, "", ""))
            kind = "application/json" if body == REFUSED else "text/html"
            await route.fulfill(status=status, body=body, content_type=kind, headers={"X-Version": version})
        else:
            await route.fulfill(body=self._html, content_type="text/html")

    async def _next(self, queue: asyncio.Queue[T], last: T) -> T:
        """The next answer, or the last one at the end of the test."""
        over, found = asyncio.ensure_future(self.over.wait()), asyncio.ensure_future(queue.get())
        await asyncio.wait((over, found), return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if found.done():
            return found.result()
        found.cancel()
        return last

    def update(self, version: str, **parts: str) -> None:
        """Let the stream send this, and end."""
        self.streams.put_nowait((200, f"event: update\ndata: {json.dumps({'version': version, 'parts': parts})}\n\n"))


@pytest.fixture
async def server(browser: Browser) -> AsyncIterator[Server]:
    page = await browser.new_page()
    made = Server(page)
    yield made
    made.over.set()
    await page.unroute_all(behavior="wait")
    await page.close()


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


async def test_enter_in_a_reason_does_what_was_asked(server: Server) -> None:
    await server.open(rendering.environment("en").from_string(ACTION).render())
    page = server.page
    await page.get_by_role("button", name="Drain").click()
    await page.fill("#ask-reason input", "new driver")
    await page.get_by_role("button", name="Back").click()
    await expect(page.locator("#ask")).to_be_hidden()
    assert server.calls == []
    await page.get_by_role("button", name="Drain").click()
    await page.fill("#ask-reason input", "new driver")
    await page.keyboard.press("Enter")
    await expect(page.locator(".toast")).to_have_text("Drained")
    assert server.calls == [{"reason": "new driver"}]


async def test_what_is_undone_is_said(server: Server) -> None:
    await server.open('<button data-call="POST /api/v2/x" data-done="Cancelled" data-undo="POST /api/v2/y">Do</button>')
    await server.page.get_by_role("button", name="Do").click()
    await server.page.get_by_role("button", name="Undo").click()
    await expect(server.page.locator(".toast")).to_have_text("Undone")
    assert "/api/v2/y" in server.asked


def acts(*names: str) -> str:
    """Rows with an action each."""
    button = '<button data-call="POST /api/v2/{0}" data-done="Done">Do {0}</button>'
    return "".join(f'<p id="{name}" data-row>{button.format(name)}</p>' for name in names)


async def test_the_next_row_has_the_focus_where_the_row_of_an_action_goes(server: Server) -> None:
    page = server.page
    await server.open(f'<div id="list" data-live>{acts("a", "b", "c", "d")}</div>')
    server.parts.put_nowait((200, f'<div id="list" data-live>{acts("a", "c", "d")}</div>', "x.2"))
    await page.get_by_role("button", name="Do b").click()
    await expect(page.locator("#c")).to_be_focused()
    await page.keyboard.press("j")
    await expect(page.locator("#d")).to_be_focused()
    server.update("x.3", list=acts("a", "c"))
    await expect(page.locator("#d")).to_have_count(0)
    await page.keyboard.press("k")
    await expect(page.locator("#c")).to_be_focused()


SHEET = (
    '{% from "parts.html" import acts, action %}<table class="list fold"><tbody><tr id="r" data-row><td class="first">r'
    '</td><td class="act">{% call acts("r") %}{{ action("Test", "POST /api/v2/x", "Done") }}{% endcall %}</td></tr>'
    "</tbody></table>"
)


async def test_the_actions_of_a_row_are_a_sheet_on_a_phone(server: Server) -> None:
    page = server.page
    test, actions = (page.get_by_role("button", name=name) for name in ("Test", "Actions"))
    await server.open(rendering.environment("en").from_string(SHEET).render())
    await expect(test).to_be_visible()
    await expect(actions).to_be_hidden()
    await page.set_viewport_size({"width": 390, "height": 844})
    await expect(test).to_be_hidden()
    await actions.click()
    await test.click()
    await expect(page.locator(".toast")).to_have_text("Done")
    await expect(test).to_be_hidden()
    await expect(actions).to_be_focused()
    assert "/api/v2/x" in server.asked


async def test_a_drag_along_a_bar_does_not_follow_its_link(server: Server) -> None:
    page = server.page
    await server.open('<svg data-pan width="600" height="20"><a href="#bar"><rect width="600" height="20"/></a></svg>')
    box = await page.locator("[data-pan] rect").bounding_box()
    assert box is not None
    for by, followed in ((40, ""), (0, "#bar")):
        await page.mouse.move(box["x"] + 300, box["y"] + 9)
        await page.mouse.down()
        await page.mouse.move(box["x"] + 300 + by, box["y"] + 9)
        await page.mouse.up()
        assert await page.evaluate("new Promise((done) => setTimeout(() => done(location.hash), 50))") == followed


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


BULK = (
    "<button type='button' data-bulk='POST /api/v2/tasks/cancel' data-ids='[1]' data-done='Cancelling {n} tasks'"
    " data-ask='Cancel {n} tasks?' data-verb='Cancel them'>Cancel</button>"
)


@pytest.mark.parametrize(("count", "verb"), [(1, "Cancel 1 task"), (2, "Cancel 2 tasks"), (1234, "Cancel 1,234 tasks")])
async def test_a_question_says_one_or_many(server: Server, count: int, verb: str) -> None:
    await server.open(BULK.replace("Cancel them", "Cancel {n} task\nCancel {n} tasks"))
    server.answers.append((200, "success", {"matched": count}))
    await server.page.get_by_role("button", name="Cancel").click()
    await expect(server.page.locator("#ask-verb")).to_have_text(verb)


@pytest.mark.parametrize(("failed", "text"), [(20, "480 of 500 done; 20 were not"), (0, "500 of 500 done")])
async def test_a_toast_follows_an_operation_to_its_end(server: Server, failed: int, text: str) -> None:
    await server.open(BULK)
    steps = [{"state": "RUNNING", "done": 200, "failed": 0}, {"state": "DONE", "done": 500 - failed, "failed": failed}]
    begun = [{"matched": 500}, {"matched": 500, "operationId": "op_1"}]
    server.answers += [(200, "success", one) for one in [*begun, *steps]]
    await server.page.get_by_role("button", name="Cancel").click()
    await server.page.click("#ask-verb")
    toast = server.page.locator(".toast")
    await expect(toast).to_have_text("Cancelling 500 tasks")
    await expect(toast).to_have_text("200 of 500 done")
    await expect(toast).to_have_text(text)
    await expect(toast).to_have_class("toast bad" if failed else "toast")
    assert len([one for one in server.asked if one == "/api/v2/operations/op_1"]) == 2


async def test_a_toast_follows_an_operation_until_the_api_is_away(server: Server) -> None:
    await server.open(BULK)
    server.answers += [(200, "success", {"matched": 5, "operationId": "op_1"})] * 2 + [(503, "", None)]
    await server.page.clock.install()
    await server.page.get_by_role("button", name="Cancel").click()
    await server.page.click("#ask-verb")
    await expect(server.page.locator(".toast")).to_have_text("Cancelling 5 tasks")
    await server.page.clock.run_for(1000)
    await expect(server.page.locator(".toast")).not_to_have_attribute("aria-busy", "true")
    await server.page.clock.run_for(7000)
    await expect(server.page.locator(".toast")).to_have_count(0)
    assert server.asked.count("/api/v2/operations/op_1") == 1


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


FORM = (
    '<form data-send="POST /api/v2/webhooks" data-done="Made" data-secret-title="The secret">'
    '<input name="url" value="u"><button>Make</button></form><textarea id="into"></textarea>'
)


async def test_a_double_click_makes_one_and_its_secret_can_be_copied_without_https(server: Server) -> None:
    page = server.page
    await server.open(FORM)
    server.answers += [(200, "success", {"secret": one}) for one in ("s1", "s2")]
    await page.get_by_role("button", name="Make").dblclick()
    await page.locator("#secret").get_by_role("button", name="Copy").click()
    await expect(page.locator("#secret .toast")).to_have_text("Copied")
    await page.keyboard.press("Escape")
    assert server.calls == [{"url": "u"}]
    await page.focus("#into")
    await page.keyboard.press("Control+V")
    await expect(page.locator("#into")).to_have_value("s1")
    await page.evaluate("document.execCommand = () => false")
    await page.evaluate("document.querySelector('#secret').showModal()")
    await page.locator("#secret").get_by_role("button", name="Copy").click()
    await expect(page.locator("#secret .toast.bad")).to_contain_text("Not copied")


async def test_a_double_click_sends_a_form_once(server: Server) -> None:
    await server.open('<form method="post" action="/console/enter"><button>Sign in</button></form>', version="")
    await server.page.evaluate(
        "addEventListener('submit', (event) => { window.sent = [...window.sent ?? [], event]; })"
    )
    button = server.page.get_by_role("button", name="Sign in")
    await server.page.route("**/console/enter", lambda route: route.fulfill(status=204))
    await button.dblclick()
    assert await server.page.evaluate("sent.map((one) => one.defaultPrevented)") == [False, True]


async def test_a_shortened_id_is_copied_whole(server: Server) -> None:
    page, task = server.page, "task_0123456789abcdef0123456789abcdef"
    await server.open(f'<p id="said">{rendering.middle(task)} failed</p><textarea id="into"></textarea>')
    await page.evaluate("getSelection().selectAllChildren(document.getElementById('said'))")
    await page.keyboard.press("Control+C")
    await page.focus("#into")
    await page.keyboard.press("Control+V")
    await expect(page.locator("#into")).to_have_value(f"{task} failed")


def lane(number: int, *names: str) -> str:
    """A slot's bars."""
    bars = "".join(
        f'<a href="#" id="{name}"><title>Bar {name}</title><rect width="9" height="9"/></a>' for name in names
    )
    return f'<g data-lane id="lane-{number}">{bars}</g>'


async def test_a_lane_is_one_tab_stop(server: Server) -> None:
    page, caption = server.page, server.page.locator("[data-caption]")
    await server.open(
        f'<a href="#" id="before">b</a><svg>{lane(1, "a", "b", "c")}{lane(2, "d", "e")}</svg><p data-caption></p>'
    )
    await page.focus("#before")
    for key, name in (
        ("Tab", "c"),
        ("ArrowLeft", "b"),
        ("Home", "a"),
        ("ArrowLeft", "a"),
        ("Tab", "e"),
        ("Shift+Tab", "a"),
    ):
        await page.keyboard.press(key)
        await expect(page.locator(f"#{name}")).to_be_focused()
        await expect(caption).to_have_text(f"Bar {name}")
    await page.keyboard.press("Shift+Tab")
    await expect(caption).to_have_text("")


@pytest.mark.parametrize(
    ("language", "status", "message", "text"),
    [
        ("en", 400, "请求参数错误: url 无效", "Not done: the value of url is not valid"),
        ("en", 400, "任务当前状态不允许该操作", "Not done: it cannot be done as things are now"),
        ("en", 409, "冲突", "Not done: it cannot be done as things are now"),
        ("en", 503, "服务暂不可用", "Not done: the API cannot do it now; try again in a moment"),
        ("en", 500, "操作失败", "Not done: an error inside the API (HTTP 500)"),
        ("en", 403, "权限不足", "Not done: your key may not do this"),
        ("zh", 400, "请求参数错误: url 无效", "未完成：请求参数错误: url 无效"),
        ("zh", 503, "", "未完成：服务暂不可用，稍后重试"),
    ],
)
async def test_a_refusal_is_said_in_the_language_of_the_page(
    server: Server, language: str, status: int, message: str, text: str
) -> None:
    server.answers += [(status, message, None)]
    await server.open('<button data-call="POST /api/v2/x" data-done="d">Do</button>', language=language)
    await server.page.get_by_role("button", name="Do").click()
    await expect(server.page.locator(".toast.bad")).to_have_text(text)
