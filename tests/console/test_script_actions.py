"""The console's script: actions, questions, toasts, forms, copying, timelines."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from api.console import rendering
from tests.console.script_server import Server

ACTION = (
    '{% from "parts.html" import action %}{{ action("Drain", "POST /api/v2/gpus/g/drain", "Drained",'
    ' confirm="Drain?", verb="Drain it", reason="body") }}'
)


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
