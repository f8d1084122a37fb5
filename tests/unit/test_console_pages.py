"""The console's pages over rows with hostile words: nothing of them becomes HTML, in no language."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from starlette.datastructures import QueryParams

from api.console import alert_words, charts, rendering
from api.console.page import Asked, Page
from api.console.pages import alerts, audit, fleet, node, now, queue, system, task, tasks, webhook
from api.console.pages.now import Seen
from api.console.texts import LANGUAGES
from api.routes import access
from infra.db.attempts.of_node import NodeAttempt
from infra.db.nodes import transitions
from infra.db.nodes.fleet import FleetNode, HeldSlot
from infra.db.nodes.queries import GoneNode, Node
from infra.db.ops import alerts as stored
from infra.db.ops.alerts import Alert, NewAlert
from infra.db.ops.callers import Caller
from infra.db.ops.health import SystemState
from infra.db.ops.instances import ListedInstance
from infra.db.ops.kinds import Kind
from infra.db.ops.sizes import Size
from infra.db.queue.oldest import Oldest
from infra.db.slots.capacity import Capacity, Nodes
from infra.db.slots.usage import Slots
from infra.db.tasks.queries import Owner, Task
from infra.db.tasks.timeline import Event
from infra.db.tasks.waits import Minute, MinuteOfOwner, Wait
from infra.settings import Settings
from workflows.domain.health import Health
from workflows.domain.role import Role

AT = datetime.now(UTC) - timedelta(minutes=7)
WORDS = [
    "<img src=x onerror=alert(1)>",
    "\u202egpj.exe",
    "x" * 10_000,
    "'\"><script>alert(1)</script>",
    "{{ 1234567 * 2 }}",
]
WAIT = Wait(2, 1.0, 2.0)
SETTINGS = Settings(task_types={2: {"name": "<b>image</b>"}})
VOID = {"input", "br", "meta", "link", "rect", "use", "circle", "line", "path"}
ISOLATED = {"bdi", "option", "code", "title"}
"""Elements that keep the direction of their text to themselves."""


def asked(answers: list[Any], path: dict[str, str] | None = None, query: str = "", language: str = "en") -> Asked:
    context = MagicMock(settings=SETTINGS)
    context.database.run = AsyncMock(side_effect=list(answers))
    context.database.single = AsyncMock(return_value=[Minute(AT.replace(second=0, microsecond=0), 12, 3)])
    context.beats.last = AsyncMock(return_value={})
    nodes = Nodes(5, 1, 0, 1, 1, 1, 0, 1, 0, 4, 0)
    context.forecast.of = AsyncMock(return_value=Capacity(nodes, [2], [], 1.0))
    caller = Caller("key_1", Role.ADMIN, "o", "key_1")
    return Asked(context, caller, path or {}, QueryParams(query), language)


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


async def html_of(page: Page, one: Asked) -> str:
    return rendering.page(page, one, await page.contents(one)).html()


def state() -> SystemState:
    instance = ListedInstance("instance-001", "api", WORDS[0], AT, AT, 1.0, 2.0, 3.0, True, False, True)
    gpus = {"ACTIVE": 1, "OFFLINE": 1, "FAULTY": 2}
    tasks = {"QUEUED": 9, "PROCESSING": 1, "COMPLETED": 0, "FAILED": 90, "TIMEOUT": 0}
    return SystemState(gpus, tasks, {"2": 10}, {("CRITICAL", "ACTIVE"): 1}, {"FAILED": 90}, [instance], stuck=2)


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
    read = Seen(state(), {(2, "QUEUED"): 9}, {2: WAIT}, {2: first}, {2: Slots(4, 2)}, Slots(4, 2), rows, 3)
    check(await html_of(now.PAGE, asked([read], language=language)))
    check(await html_of(system.PAGE, asked([(state(), None, [Size(word, 5, 6)], 7)], language=language)))


def node_of(word: str) -> Node:
    return Node(
        gpu_id=word, hostname=word, vast_ins_id=None, ip="10.0.0.1", port=1, task_types=[2], priority_queue="VIP",
        status="FAULTY", failure_count=1, task_failure_count=2, version=word, max_concurrent_tasks=2, last_beat=AT,
        current_tasks=1, drained_at=AT, drained_by=word, drain_reason=word, drain_deadline=AT, metadata={word: word},
        epoch=1, fault_reason=word, silent_s=0.0, status_age_s=0.0, open_attempts=0,
        older_attempts=0, is_back=False,
    )  # fmt: skip


async def test_a_node_that_is_gone_is_shown_without_actions() -> None:
    gone = GoneNode(**node_of("g").__dict__, gone_at=AT)
    text = await html_of(node.PAGE, asked([(gone, AT, [])], {"gpu_id": "g"}))
    assert "Gone" in text
    assert "deregistered" in text
    assert "data-call" not in text
    assert "data-call" in await html_of(node.PAGE, asked([(node_of("g"), AT, [])], {"gpu_id": "g"}))


async def test_an_empty_log_is_not_a_filter_that_matches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for query, title in (("", "Nothing here"), ("owner=o", "No entry matches"), ("before=1", "No older entry")):
        one = asked([], query=query)
        monkeypatch.setattr(one.context.database, "single", AsyncMock(return_value=[]))
        assert f'<p class="strong">{title}</p>' in await html_of(audit.PAGE, one)


async def test_tasks_that_do_not_compete_are_in_the_order_of_their_expected_starts() -> None:
    """Within a pool the places decide, though a round that is short may be expected before the last slot is free."""
    nodes = Nodes(5, 1, 0, 1, 1, 1, 0, 1, 0, 2, 0)
    seen = {2: Capacity(nodes, [2], [50.0, 90.0], 1.0), 3: Capacity(nodes, [3], [10.0, 60.0], 5.0)}
    seen[4] = Capacity(replace(nodes, slots=0), [4], [], 1.0)
    names = [(4, "none"), (2, "a"), (2, "b"), (2, "c"), (3, "d"), (3, "e")]
    waiting: list[Any] = [
        MagicMock(task_type=kind, task_id=name, vip=False, queue_class=0, barred_on=[]) for kind, name in names
    ]
    one = asked([])
    context: Any = one.context
    context.forecast.of = AsyncMock(side_effect=lambda kind, vip, barred_on: seen[kind])
    context.forecast.places = AsyncMock(side_effect=lambda _, tasks: {name: (n, True) for n, name in enumerate(tasks)})
    context.database.single = AsyncMock(return_value={})
    found = sorted(await queue.rows(one, waiting), key=queue._runs_at)
    assert [row.task.task_id for row in found] == ["d", "a", "e", "b", "c", "none"]


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


async def test_the_queue_counts_also_what_it_does_not_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Types without a count of their own, and those beyond the ones with the most tasks."""
    one, listed = asked([]), AsyncMock(return_value=[])
    kinds = {(number, "QUEUED"): number for number in range(1, queue.MOST_LISTED + 3)} | {(None, "QUEUED"): 10_000}
    monkeypatch.setattr(one.context.database, "single", AsyncMock(return_value=kinds))
    monkeypatch.setattr(queue, "_page", listed)
    found = await queue.contents(one)
    assert found["total"] == sum(kinds.values())
    types = listed.call_args.args[2]
    assert {*types} <= {*range(3, queue.MOST_LISTED + 3)}


async def skeleton_of(page: Page, one: Asked) -> str:
    return rendering.page(page, one, await page.contents(one)).skeleton


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


async def test_the_picture_of_a_node_stays_for_some_seconds() -> None:
    at = datetime(2026, 1, 1, 12, 0, 0, 1, UTC)
    ends = {node._ceiling(at + timedelta(seconds=s), timedelta(seconds=5)) for s in (0, 1, 4.9)}
    assert ends == {datetime(2026, 1, 1, 12, 0, 5, tzinfo=UTC)}


async def test_a_node_of_very_many_slots_is_a_short_row() -> None:
    large = FleetNode("g", "h", "ACTIVE", [2], "NORMAL", 1024, 1024, AT, False, None, None, False)
    text = await html_of(fleet.PAGE, asked([([large], {})]))
    row = text.partition('id="n-g"')[2].partition("</div>")[0]
    assert row.count('<i class="s"') == 64
    assert "+960" in row
    assert "0 of 1,024 slots used" in text


async def test_a_square_says_in_words_what_its_slot_does() -> None:
    busy = FleetNode("g", "h", "ACTIVE", [2], "NORMAL", 4, 4, AT, False, None, None, False)
    held = [HeldSlot("g", n, f"t{n}", progress, n == 3) for n, progress in ((1, None), (2, 47), (3, 5))]
    text = await html_of(fleet.PAGE, asked([([busy], {"g": held})]))
    assert re.findall(r'title="([^"]* · t\d)"', text) == [
        "Running · t1",
        "Running · 40 % · t2",
        "its process is being stopped · t3",
    ]


@pytest.mark.parametrize(
    ("takes", "status", "draining", "rests", "used", "free"),
    [
        (4, "ACTIVE", False, False, "2 of 4", 2),
        (1, "ACTIVE", False, False, "1 of 1", 0),  # it runs a probe, and what ran before
        (4, "ACTIVE", False, True, "2 of 4", 0),
        (4, "ACTIVE", True, False, "0 of 0", 0),
        (4, "OFFLINE", False, False, "0 of 0", 0),
    ],
)
async def test_the_slots_of_a_group_are_those_that_take_work(
    takes: int, status: str, draining: bool, rests: bool, used: str, free: int
) -> None:
    one = FleetNode("g", "h", status, [2], "NORMAL", 4, takes, AT, draining, None, None, rests)
    held = [HeldSlot("g", n, f"t{n}", None, False) for n in (1, 3)]
    text = await html_of(fleet.PAGE, asked([([one], {"g": held})]))
    assert f"{used} slots used" in text
    row = text.partition('id="n-g"')[2].partition("</div>")[0]
    assert (row.count('<i class="s"></i>'), row.count('<i class="s off"></i>')) == (free, 2 - free)


async def test_a_node_s_facts_come_before_its_slots() -> None:
    text = await html_of(node.PAGE, asked([(node_of("g"), AT, [])], {"gpu_id": "g"}))
    assert text.index('id="facts"') < text.index('id="lanes"') < text.index('id="attempts"')


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
    assert text.index("data-everything") < text.index("<form")  # beside the total


async def test_the_call_that_creates_a_task_goes_to_this_api() -> None:
    for page, one in ((now.PAGE, asked([Seen(state(), {}, {}, {}, {}, Slots(0, 0), [], 0)])),):
        one.context.settings = Settings(public_url="https://gpus.example:8443")
        assert "POST https://gpus.example:8443/api/v2/tasks" in await html_of(page, one)


def sentence_in(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", text.partition("</p>")[0])).strip()


async def test_the_first_sentence_is_made_of_data() -> None:
    first = Oldest(2, "task_1", AT, 541.0)
    read = Seen(state(), {(2, "QUEUED"): 9}, {2: WAIT}, {2: first}, {2: Slots(4, 2)}, Slots(4, 2), [], 0)
    text = await html_of(now.PAGE, asked([read]))
    assert 'href="/console/queue?taskType=2">9 tasks' in text
    assert sentence_in(text) == (
        "Now 2 nodes are faulty; 1 node is offline; 9 tasks of type 2 wait, the oldest for 9 m; no instance leads; "
        "2 workflows cannot go on; a disk is nearly full: instance-001; 90 of the last 90 tasks failed."
    )


STATES = [
    (gpus, draining, queued, recent, alive, stuck, alerts_)
    for gpus in ({}, {"ACTIVE": 1}, {"ACTIVE": 9, "OFFLINE": 1}, {"FAULTY": 1}, {"OFFLINE": 2})
    for draining in (0, 1)
    for queued in (0, 1, 101, 901)
    for recent in ({}, {"FAILED": 2, "COMPLETED": 10})
    for alive in (True, False)
    for stuck in (0, 1)
    for alerts_ in ({}, {("WARNING", "ACTIVE"): 1})
    if draining <= gpus.get("ACTIVE", 0)
]


async def test_all_is_well_only_if_health_says_so() -> None:
    said = set()
    for gpus, draining, queued, recent, alive, stuck, alerts_ in STATES:
        instance = ListedInstance("i", "api", "1", AT, AT, 1.0, 2.0, 3.0, alive, True, False)
        gpus = {"ACTIVE": 0, "OFFLINE": 0, "FAULTY": 0} | gpus
        tasks = {"QUEUED": queued, "PROCESSING": 0}
        one = SystemState(gpus, tasks, {}, alerts_, recent, [instance], stuck=stuck, draining=draining)
        working = gpus["ACTIVE"] - draining
        slots = {2: Slots(working, 0)} if working else {}
        counts: dict[Kind, int] = {(2, "QUEUED"): queued}
        read = Seen(one, counts, {2: WAIT}, {}, slots, Slots(working, 0), [], len(alerts_))
        found = sentence_in(await html_of(now.PAGE, asked([read])))
        is_well = found.startswith(("Now All well", "Now No node yet"))
        assert not is_well or (one.levels.system is Health.HEALTHY and not alerts_), (found, one)
        said.add(found)
    assert "Now 1 warning is open." in said
    assert "Now Every active node is draining." in said
    assert "Now More than 100 tasks wait for each node." in said


def of_user(kinds: dict[tuple[int, str], int], failed: int = 0, slots: int = 4) -> Asked:
    one = asked([])
    context: Any = one.context
    caller = Caller("key_1", Role.USER, "ada", "key_1")
    minutes = [MinuteOfOwner(charts.last_hour()[-2], 12, failed, [])]
    first = [[MagicMock()] for _, status in kinds if status == "QUEUED"]
    context.database.single = AsyncMock(side_effect=[kinds, *first, minutes])
    nodes = Nodes(5, 0 if slots else 5, 0, 1, 1, 1, 0, 1, 0, slots, 0)
    context.forecast.of = AsyncMock(return_value=Capacity(nodes, [2], [], 1.0))
    return replace(one, caller=caller)


@pytest.mark.parametrize(
    ("kinds", "failed", "slots", "said"),
    [
        ({}, 0, 4, "All well: none of your tasks waits or runs."),
        ({(2, "QUEUED"): 3}, 0, 4, "All well: 0 of your tasks running, 3 waiting: all slots for this type are taken."),
        ({(2, "QUEUED"): 3}, 0, 0, "3 tasks of type 2 wait: no node runs this type."),
        ({(2, "PROCESSING"): 1}, 2, 4, "2 of your tasks have failed in the last hour."),
    ],
)
async def test_a_user_reads_in_a_sentence_what_is_wrong_and_why_tasks_wait(
    monkeypatch: pytest.MonkeyPatch, kinds: dict[tuple[int, str], int], failed: int, slots: int, said: str
) -> None:
    row = queue.Row(MagicMock(task_id="t", task_type=2), 3, True, (5.0, 9.0), 7.0, "", None)
    monkeypatch.setattr(queue, "rows", AsyncMock(return_value=[row]))
    text = await html_of(now.PAGE, of_user(kinds, failed, slots))
    assert sentence_in(text) == f"Now {said}"
    assert "/console/nodes" not in text
    assert "/console/fleet" not in text


def test_every_kind_of_alert_has_its_words() -> None:
    causes = [
        "fault:g",
        "offline:g",
        "rest:failures:g",
        "unhealthy",
        *(one.cause for one in stored.unserved([stored.Unserved(1, "t", drained=True)])),
    ]
    causes += [stored.stuck(["w"], []).cause, stored.miscounted(["x"]).cause, stored.fleet_silent(["g"], 2).cause]
    causes += [stored.disk_nearly_full("h", "/", 1, 2).cause, stored.undelivered("u", "d").cause]
    assert None not in [alert_words.of_cause(cause) for cause in causes]
    assert alert_words.of_cause("another:x") is None
    assert [alert_words.node_of(cause) for cause in causes[:4]] == ["g", "g", "g", None]


def test_an_alert_in_english_says_names_and_numbers_alone() -> None:
    def said(alert: NewAlert) -> str:
        return alert_words.detail_of(alert.cause, alert.message, "en")

    assert said(transitions._fault_alert("g", "Xid: 79")) == "Xid: 79"
    assert said(transitions._offline_alert("g")) == ""
    assert said(stored.stuck(["task-1", "task-2"], ["a"])) == "2 · task-1"
    assert said(stored.fleet_silent(["a", "b"], 9)) == "9 · 2 · a, b"
    assert said(stored.disk_nearly_full("h", "/data", 1 << 20, 9 << 20)) == "h · /data · 1 MiB"
    assert said(stored.miscounted(["tasks 2 QUEUED: +1"])) == "tasks 2 QUEUED: +1"
    assert said(stored.undelivered("NOTIFY URL 2 (json://…)", "d")) == "NOTIFY URL 2 (json://…)"
    assert [said(one) for one in stored.unserved([stored.Unserved(7, "t")])] == [""]
    assert [alert_words.type_of(f"unserved:{name}") for name in ("7", "others")] == ["7", None]
    assert alert_words.detail_of("rest:refused:g", "GPU节点 g 连续失败：out of memory", "en") == "out of memory"
    assert alert_words.detail_of("rest:refused:g", "GPU节点 g 连续失败", "en") == ""
    assert alert_words.detail_of("another", "消息", "en") == alert_words.detail_of("fault:g", "消息", "zh") == "消息"
