"""The console's pages over rows with hostile words: nothing of them becomes HTML, in no language."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from html.parser import HTMLParser
from unittest.mock import AsyncMock, MagicMock

import pytest

from api.console.page import Asked, Page
from api.console.pages import alerts, audit, fleet, node, now, queue, system, task, tasks, webhook
from api.console.pages.now import Seen
from api.console.texts import LANGUAGES
from api.routes import access
from infra.db.attempts.of_node import NodeAttempt
from infra.db.nodes.fleet import FleetNode, HeldSlot
from infra.db.ops.alerts import Alert
from infra.db.ops.sizes import Size
from infra.db.queue.oldest import Oldest
from infra.db.slots.usage import Slots
from infra.db.tasks.queries import Owner, Task
from infra.db.tasks.timeline import Event
from infra.settings import Settings
from tests.unit.console_rows import AT, WAIT, WORDS, asked, html_of, node_of, rendered, state

VOID = {"input", "br", "meta", "link", "rect", "use", "circle", "line", "path"}
ISOLATED = {"bdi", "option", "code", "title"}
"""Elements that keep the direction of their text to themselves."""


class Tags(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: list[str] = []
        self.values: list[str] = []
        self.said: list[tuple[tuple[str, ...], str]] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        self.names += [name for name, _ in attrs]
        self.values += [value or "" for name, value in attrs if name in ("href", "src", "action")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append((tuple(self._open), data))


def check(text: str) -> None:
    found = Tags(text)
    assert not {"img", "script", "b"} & set(found.tags)
    assert not [name for name in found.names if name.startswith("on") or name == "style"]
    assert not [value for value in found.values if not value.startswith(("/", "?", "#"))]
    assert "2469134" not in text  # no template of theirs was run
    assert not [tags for tags, said in found.said if "\u202e" in said and not ISOLATED & set(tags)]


def alert(number: int, word: str, cause: str | None = None) -> Alert:
    return Alert(number, cause, word, word, "CRITICAL", "ACTIVE", word, AT, None, None, 3)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("word", WORDS)
async def test_no_word_of_others_becomes_html(word: str, language: str) -> None:
    rows = [alert(1, word), alert(2, word, f"fault:{word}"), alert(3, word, f"rest:failures:{word}")]
    check(await html_of(alerts.PAGE, asked([(rows, 3)], language=language, query="status=" + word[:50])))
    nodes = [
        FleetNode(word, word, status, [2], "VIP", 2, 2, AT, draining, word, word, True)
        for status, draining in (("FAULTY", False), ("ACTIVE", True), ("OFFLINE", False))
    ]
    held = {word: [HeldSlot(word, 3, word, 40, True)]}
    check(await html_of(fleet.PAGE, asked([(nodes, held)], language=language)))
    check(await html_of(fleet.PAGE, asked([([], {})], language=language, query="q=" + word)))
    attempt = NodeAttempt(word, 2, 1, AT, AT + timedelta(minutes=4), "FAILED", word, 9, 2, word, None)
    check(await html_of(node.PAGE, asked([(node_of(word), AT, [attempt])], {"gpu_id": word}, language=language)))
    first = Oldest(2, word, AT - timedelta(minutes=9), 540.0)
    read = Seen(state(), {2: WAIT}, {2: first}, {2: Slots(4, 2)}, Slots(4, 2), rows)
    check(await html_of(now.PAGE, asked([read], language=language)))
    check(await html_of(system.PAGE, asked([(state(), None, [Size(word, 5, 6)], 7)], language=language)))


@pytest.mark.parametrize("word", WORDS)
async def test_a_task_says_the_whole_of_why_it_failed(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = f"{word}\n{'y' * 3000} the end"
    row = Task(
        "t", 1, 2, "FAILED", word, word, 1, "g", said, 0, 0, 1000, 0, AT, AT, AT, AT, None, None, word, None, None,
        True, None, None, None,
    )  # fmt: skip
    monkeypatch.setattr(access, "read_task", AsyncMock(side_effect=[row, Owner(word, None, 1)]))
    one = asked([], {"task_id": "t"})
    steps = [Event(1, "PROCESSING", "FAILED", 1, "g", "gpu:g", said, AT)]
    one.context.settings = Settings()
    monkeypatch.setattr(one.context.database, "single", AsyncMock(side_effect=[steps, [], [], None]))
    text = await html_of(task.PAGE, one)
    check(text)
    assert text.count("the end") == 2
    assert text.count("Forgotten:") == 2
    assert 'href="/console/tasks?status=QUEUED&amp;app=' in text


async def test_an_empty_log_is_not_a_filter_that_matches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for query, title in (("", "Nothing here"), ("owner=o", "No entry matches"), ("before=1", "No older entry")):
        one = asked([], query=query)
        monkeypatch.setattr(one.context.database, "single", AsyncMock(return_value=[]))
        assert f'<p class="strong">{title}</p>' in await html_of(audit.PAGE, one)


@pytest.mark.parametrize(
    ("found", "number", "said"),
    [
        (
            10_001,
            1,
            [
                "more than 10,000 match",
                "1 to 50 of more than 10,000",
                'data-count-all="All that match"',
                ">Tick all that",
            ],
        ),
        (
            10_001,
            200,
            ["9,951 to 10,000 of more than 10,000", "the last page that can be opened", "In the last 15"],
        ),
        (
            10_000,
            200,
            ["9,951 to 10,000 of 10,000</span>", 'data-count-all="All {n} that match"', ">Tick all 10,000 that"],
        ),
    ],
)
async def test_a_total_that_is_not_counted_to_its_end_is_not_a_number(found: int, number: int, said: list[str]) -> None:
    row = MagicMock(task_id="t", status="FAILED", app="a", user_id="u", gpu_id=None, error_message=None, created_at=AT)
    row.configure_mock(started_at=None, completed_at=None, retry_count=0, end_reason=None)
    text = await html_of(tasks.PAGE, asked([([row], found)], query=f"since=900&page={number}"))
    assert [one for one in said if one not in text] == []
    assert text.index("data-everything") < text.index("<form")  # next to the total


async def skeleton_of(page: Page, one: Asked) -> str:
    return (await rendered(page, one)).skeleton


async def test_numbers_and_time_leave_the_skeleton_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise every viewer fetches the whole page at each change."""
    found: dict[str, set[str]] = defaultdict(set)
    hook = MagicMock(webhook_id="w", events=[], url="u", owner="o", state="ACTIVE", disabled_because=None)
    monkeypatch.setattr(webhook, "check_owner", AsyncMock(return_value=hook))
    for n in (1, 2):
        found["node"].add(
            await skeleton_of(node.PAGE, asked([(node_of("g"), AT, [])], {"gpu_id": "g"}, query=f"until={n}"))
        )
        found["system"].add(await skeleton_of(system.PAGE, asked([(state(), None, [Size("t", n, n)], n)])))
        one = asked([])
        kinds = {(2, "QUEUED"): n}
        monkeypatch.setattr(one.context.database, "single", AsyncMock(return_value=kinds))
        monkeypatch.setattr(queue, "_page", AsyncMock(return_value=[]))
        found["queue"].add(await skeleton_of(queue.PAGE, one))
        one = asked([([], n)], query="since=900")
        monkeypatch.setattr(one.context.database, "single", AsyncMock(return_value=kinds))
        monkeypatch.setattr("time.time", lambda n=n: 60.0 * n)
        found["tasks"].add(await skeleton_of(tasks.PAGE, one))
        found["webhook"].add(await skeleton_of(webhook.PAGE, asked([([], n)], {"webhook_id": "w"})))
    assert {name: len(some) for name, some in found.items()} == dict.fromkeys(found, 1)
