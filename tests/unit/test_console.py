"""Rendering: what is escaped, cut and isolated, and which parts of a page are sent again."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from starlette.datastructures import Headers, QueryParams

from api.console import answers, live, rendering
from api.console.live import Screen, Screens
from api.console.page import Asked, Page
from api.console.pages import PAGES
from api.console.rendering import duration, middle, name, whole
from api.middleware.authentication import from_own_page
from infra.db.access.callers import Caller
from workflows.domain.errors import TaskNotFound
from workflows.domain.role import Role

HOSTILE = "<img src=x onerror=alert(1)>"
BACKWARDS = "\u202egpj.exe\u2066"


def asked(role: Role = Role.ADMIN, owner: str = "o", query: str = "", language: str = "en") -> Asked:
    caller = Caller(f"key_{owner}", role, owner, f"lineage_{owner}")
    return Asked(MagicMock(), caller, {}, QueryParams(query), language)


def test_somebody_else_s_words_are_escaped_isolated_and_cut() -> None:
    assert "<img" not in name(HOSTILE)
    assert str(name(BACKWARDS)).startswith("<bdi ")
    assert len(name("x" * 10_000)) < 1000
    assert name("</bdi><script>") == '<bdi title="&lt;/bdi&gt;&lt;script&gt;">&lt;/bdi&gt;&lt;script&gt;</bdi>'


def test_a_text_is_shown_whole_and_folded_where_it_is_long() -> None:
    short, long = whole(HOSTILE + BACKWARDS + "\n2"), whole("x" * 4096)
    assert short == '<bdi class="uncut">&lt;img src=x onerror=alert(1)&gt;\ufffdgpj.exe\ufffd\n2</bdi>'
    assert long.startswith("<details")
    assert f">{'x' * 4096}</bdi>" in long


def test_a_question_names_what_it_is_about() -> None:
    words = "{% from 'words.html' import cancel, priority %}{{ cancel('task_1') }}{{ priority('task_1', 1) }}"
    asks = re.findall('data-ask="([^"]*)"', rendering.environment("en").from_string(words).render())
    assert asks == ["Cancel task_1?", "Change the priority of task_1?"]


def test_a_number_that_only_the_script_knows_has_its_words() -> None:
    words = "{{ counted('Cancel {n} task?', 'Cancel {n} tasks?') }}"
    said = {one: rendering.environment(one).from_string(words).render().split("\n") for one in ("en", "zh")}
    assert said == {"en": ["Cancel {n} task?", "Cancel {n} tasks?"], "zh": ["取消 {n} 个任务？"] * 2}


def test_a_button_never_becomes_one_for_another_call() -> None:
    """The script keeps an element by its key."""
    words = (
        "{% from 'parts.html' import action %}{{ action('Do', 'POST /a', 'Done') }}{{ action('Do', 'POST /b', '') }}"
    )
    text = rendering.environment("en").from_string(words).render()
    assert re.findall('data-key="([^"]*)"', text) == re.findall('data-call="([^"]*)"', text) == ["POST /a", "POST /b"]


def test_an_id_is_shortened_in_its_middle_and_copied_whole() -> None:
    shown = middle("task_0123456789abcdef0123456789abcdef")
    assert 'data-copy="task_0123456789abcdef0123456789abcdef"' in shown
    assert ">task_0123…89abcdef</code>"[-8:] == shown[-8:]
    assert "…" in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.25, "0.2 s"),
        (9.9, "9.9 s"),
        (9.97, "10 s"),
        (72, "1 m 12 s"),
        (3600, "1 h"),
        (90_061, "1 d 1 h"),
        (None, "–"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def _page(template: str, values: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> Page:
    env = rendering.environment("en")
    monkeypatch.setattr(env, "get_template", lambda _: env.from_string(template))
    return Page("test", "/test", "Test", AsyncMock(side_effect=lambda _: dict(values)))


TEMPLATE = "<h1>{{ title }}</h1>{% call live('a') %}{{ a }}{% call live('b', 'p') %}{{ b }}{% endcall %}{% endcall %}"


async def test_only_what_has_changed_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"title": "T", "a": 1, "b": HOSTILE}
    screen = Screen(_page(TEMPLATE, values, monkeypatch), asked())
    first = await screen.shown(0)
    assert first.html == (
        '<h1>T</h1><div id="a" class="" data-live>1<p id="b" class="" data-live>'
        "&lt;img src=x onerror=alert(1)&gt;</p></div>"
    )
    assert (await screen.shown(0)) == first
    values["b"] = 2
    second = await screen.shown(0)
    assert second.version != first.version
    frame = screen._frame(screen._number_of(first.version)).decode()
    assert '"parts": {"b": "2"}' in frame
    values["title"] = "U"
    await screen.shown(0)
    assert "parts" not in screen._frame(screen._number_of(second.version)).decode()
    assert screen._number_of("of another process.1") == -1


async def test_a_page_whose_subject_is_gone_is_asked_for_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(_page(TEMPLATE, {"title": "T", "a": 1, "b": 2}, monkeypatch), asked())
    version = (await screen.shown(0)).version
    for _ in range(2):
        screen._reload_viewers()
    assert screen._number == screen._number_of(version) + 1
    assert "parts" not in screen._frame(screen._number_of(version)).decode()
    screen._page.contents.side_effect = TaskNotFound  # type: ignore[attr-defined]
    with pytest.raises(TaskNotFound):
        await screen.shown()


async def test_every_viewer_is_notified_whoever_asked_for_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"title": "T", "a": 1, "b": 2}
    screen, viewer = Screen(_page(TEMPLATE, values, monkeypatch), asked()), MagicMock()
    screen._viewers[viewer] = None
    for a, notified in ((1, 1), (1, 1), (3, 2)):
        values["a"] = a
        await screen.shown(0)
        assert viewer.wake.call_count == notified


async def test_a_stream_says_by_an_event_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser hides comments from its script."""
    screen = Screen(_page(TEMPLATE, {"title": "T", "a": 1, "b": 2}, monkeypatch), asked())
    version = (await screen.shown(0)).version
    frames = screen.frames(MagicMock(), "k", version, AsyncMock(return_value=True))
    assert await anext(frames) == b"event: ping\ndata: \n\n"
    await frames.aclose()


async def test_a_bug_ends_the_streams_of_a_page_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    screen, viewer = Screen(PAGES[0], asked()), MagicMock()
    screen._viewers[viewer] = None
    monkeypatch.setattr(screen, "_follow_events", AsyncMock(side_effect=KeyError))
    await screen._follow(MagicMock(is_closed=False))
    viewer.end.assert_called_once_with()
    assert len(caplog.records) == 1


class Events:
    """The events that a page's follower hears."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.is_ended = False
        self.waits: deque[Callable[[], list[Any]]] = deque()

    def listen(self) -> None:
        """Nothing is buffered here."""

    async def next(self, _: float) -> list[Any]:
        if self.waits:
            return self.waits.popleft()()
        self.screen._viewers.clear()
        return []

    async def follow(self) -> None:
        """Follow until all that is to be heard is shown."""
        hub = MagicMock()
        hub.subscribe.return_value.__aenter__.return_value = self
        self.screen._viewers[MagicMock()] = None
        async with asyncio.timeout(5):
            await self.screen._follow_events(hub)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.console.live.LEAST_S", 0.01)
    monkeypatch.setattr("api.console.live.URGENT_S", 0.01)
    monkeypatch.setattr("api.console.live.SHARE", 0)
    monkeypatch.setattr("api.console.live.URGENT_SHARE", 0)


@pytest.mark.usefixtures("soon")
async def test_what_happens_before_a_page_is_followed_and_after_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"title": "T", "a": "at first", "b": 2}
    screen = Screen(_page(TEMPLATE, values, monkeypatch), asked())
    await screen.shown(0)
    values["a"] = "between"

    def event() -> list[Any]:
        assert "between" in screen._html
        values["a"] = "after"
        return [MagicMock()]

    events = Events(screen)
    events.waits.append(event)
    await events.follow()
    assert "after" in screen._html


async def test_a_render_that_began_before_an_event_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"title": "T", "a": "before", "b": 2}
    page = _page(TEMPLATE, values, monkeypatch)

    async def slow(_: Asked) -> dict[str, Any]:
        read = dict(values)
        await asyncio.sleep(0)
        return read

    page.contents.side_effect = slow  # type: ignore[attr-defined]
    screen = Screen(page, asked())
    begun = asyncio.create_task(screen.shown(0))
    await asyncio.sleep(0)
    values["a"] = "after"
    await screen._catch_up(time.monotonic())
    assert "after" in screen._html
    await begun


async def test_a_page_that_was_read_but_not_rendered_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(_page(TEMPLATE, {"title": "T", "a": 1, "b": 2}, monkeypatch), asked())
    with monkeypatch.context() as patch:
        patch.setattr(rendering, "page", MagicMock(side_effect=KeyError))
        with pytest.raises(KeyError):
            await screen.shown()
    assert (await screen.shown()).html


async def test_a_page_is_rendered_once_for_all_who_ask_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    page = _page("{{ n }}", {"n": 1}, monkeypatch)
    screens, one = Screens(), asked()
    for _ in range(20):
        await screens.of(page, one).shown()
    assert page.contents.await_count == 1  # type: ignore[attr-defined]


def test_a_screen_stays_for_those_who_wait_for_its_first_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    screens, page, one = Screens(), PAGES[0], asked()
    first = screens.of(page, one)
    screens.of(PAGES[1], one)
    assert screens.of(page, one) is first
    monkeypatch.setattr(live, "IDLE_S", 0.0)
    screens.of(PAGES[2], one)
    assert screens.of(page, one) is not first


def test_people_share_a_screen_only_where_they_may_see_the_same() -> None:
    screens, page = Screens(), PAGES[0]
    same = screens.of(page, asked(owner="a"))
    assert screens.of(page, asked(owner="b")) is same
    assert screens.of(page, asked(owner="b", query="x=1")) is not same
    assert screens.of(page, asked(language="zh")) is not same
    assert screens.of(page, asked(Role.USER, "a")) is not screens.of(page, asked(Role.USER, "b"))


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site", "origin": "http://a:1", "host": "a:1"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "http://a:1", "host": "a:1"}, True),
        ({"origin": "http://a:2", "host": "a:1"}, False),
        ({"origin": "null", "host": "a:1"}, False),
        ({}, False),
    ],
)
def test_only_our_own_pages_write(headers: dict[str, str], own: bool) -> None:
    assert from_own_page(Headers(headers)) is own


@pytest.mark.parametrize(
    ("path", "back"),
    [
        (None, "/console"),
        ("/console/tasks?page=2", "/console/tasks?page=2"),
        ("//evil.example", "/console"),
        ("/console\\evil", "/console"),
        ("https://evil.example/console/", "/console"),
        ("/consoles", "/console"),
        ("javascript:alert(1)", "/console"),
    ],
)
def test_the_way_back_stays_in_the_console(path: str | None, back: str) -> None:
    assert answers.way_back(path) == back


def test_pages_are_whole() -> None:
    """Each has a template, and its path, name and letter are its own."""
    for page in PAGES:
        assert rendering.environment("en").get_template(f"{page.name}.html")
        assert Role.NODE not in page.roles
    for values in ([p.path for p in PAGES], [p.name for p in PAGES], [p.key for p in PAGES if p.key]):
        assert len(values) == len(set(values))


def test_templates_import_what_they_use() -> None:
    folder = Path(rendering.__file__).parent / "templates"
    for path in folder.glob("*.html"):
        text = path.read_text()
        for line, names in re.findall(r'({% from "[^"]+" import ([^%]+?) %})', text):
            unused = [one for one in names.split(", ") if not re.search(rf"\b{one}\(", text.replace(line, ""))]
            assert not unused, path.name
