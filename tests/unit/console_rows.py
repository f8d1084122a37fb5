"""Rows for the pages of the console, and what a page says of them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from unittest.mock import AsyncMock, MagicMock

from jinja2 import meta
from starlette.datastructures import QueryParams

from api.console import rendering
from api.console.page import Asked, Page
from api.console.rendering import Rendering
from infra.db.access.callers import Caller
from infra.db.nodes.queries import RegisteredNode
from infra.db.ops.health import SystemState
from infra.db.ops.instances import ListedInstance
from infra.db.ops.kinds import Kind
from infra.db.slots.capacity import Capacity, Nodes
from infra.db.tasks.waits import Minute, Wait
from infra.settings import Settings
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


def asked(answers: list[Any], path: dict[str, str] | None = None, query: str = "", language: str = "en") -> Asked:
    context = MagicMock(settings=SETTINGS)
    context.database.run = AsyncMock(side_effect=list(answers))
    context.database.single = AsyncMock(return_value=[Minute(AT.replace(second=0, microsecond=0), 12, 3)])
    context.beats.last = AsyncMock(return_value={})
    nodes = Nodes(5, 1, 0, 1, 1, 1, 0, 1, 0, 4, 0)
    context.forecast.of = AsyncMock(return_value=Capacity(nodes, [2], [], 1.0))
    caller = Caller("key_1", Role.ADMIN, "o", "key_1")
    return Asked(context, caller, path or {}, QueryParams(query), language)


async def html_of(page: Page, one: Asked) -> str:
    return (await rendered(page, one)).html()


async def rendered(page: Page, one: Asked) -> Rendering:
    """The page. Its template uses every value that it gets."""
    values = await page.contents(one)
    assert values.keys() - _names_in(f"{page.name}.html") <= {"is_still"}
    return rendering.page(page, one, values)


@cache
def _names_in(template: str) -> frozenset[str]:
    """The variables of a template, and of those that it includes."""
    env = rendering.environment("en")
    assert env.loader is not None
    text = env.loader.get_source(env, template)[0]
    others = [_names_in(other) for other in re.findall(r'"(\w+\.html)"', text)]
    return frozenset(meta.find_undeclared_variables(env.parse(text))).union(*others)


def state() -> SystemState:
    instance = ListedInstance("instance-001", "api", WORDS[0], AT, AT, 1.0, 2.0, 3.0, True, False, True)
    gpus = {"ACTIVE": 1, "OFFLINE": 1, "FAULTY": 2}
    kinds: dict[Kind, int] = {(2, "QUEUED"): 9, (2, "PROCESSING"): 1, (2, "FAILED"): 90}
    return SystemState(gpus, kinds, {("CRITICAL", "ACTIVE"): 1}, {"FAILED": 90}, [instance], stuck=2)


def node_of(word: str) -> RegisteredNode:
    return RegisteredNode(
        gpu_id=word, hostname=word, vast_ins_id=None, ip="10.0.0.1", port=1, task_types=[2], priority_queue="VIP",
        status="FAULTY", failure_count=1, task_failure_count=2, version=word, max_concurrent_tasks=2, last_beat=AT,
        current_tasks=1, drained_at=AT, drained_by=word, drain_reason=word, drain_deadline=AT, metadata={word: word},
        epoch=1, fault_reason=word, silent_s=0.0, status_age_s=0.0, open_attempts=0,
        older_attempts=0, is_back=False,
    )  # fmt: skip


def sentence_in(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", text.partition("</p>")[0])).strip()
