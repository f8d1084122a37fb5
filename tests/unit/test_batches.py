"""Bad input of `POST /tasks/batch`: 400 that names the index and the field. The database is away."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterable
from typing import Any

import pytest

from infra.db.transactions.create_batch import key_of, where
from tests.unit.whole_api import client
from workflows.notifications import Notifications

TASK = {"taskType": 2, "userId": "user_001", "app": "a", "payload": "{}", "timeout": 1000, "maxRetries": 0}
WITHOUT_TYPE = {key: value for key, value in TASK.items() if key != "taskType"}


def third(**more: Any) -> dict[str, Any]:
    return {"tasks": [TASK, TASK, TASK | more]}


def each(field: str, values: Iterable[Any]) -> dict[str, Any]:
    """A task for each value of a field."""
    return {"tasks": [TASK | {field: value} for value in values]}


def repeated(name: str) -> str:
    """A body whose third task has a field twice."""
    return json.dumps(third(**{"app": "twice", name: 1})).replace('"twice"', f'"a", "{name}": 1')


BAD: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "tasks 缺失"),
    "an empty batch": ({"tasks": []}, "tasks 元素过少"),
    "1001 tasks": ({"tasks": [TASK] * 1001}, "tasks 元素过多"),
    "an object": ({"tasks": TASK}, "tasks 无效"),
    "no task": ({"tasks": [TASK, TASK, 7]}, "tasks[2] 必须是JSON对象"),
    "null": ({"tasks": [TASK, TASK, None]}, "tasks[2] 必须是JSON对象"),
    "NUL instead of a task": ({"tasks": [TASK, TASK, "\0"]}, "tasks[2] 无效"),
    "more than 64 bits": (third(taskType=2**63), "tasks[2].taskType 无效"),
    "thousands of digits": (third(priority=10**4000), "tasks[2].priority 无效"),
    "NUL": (third(app="a\0"), "tasks[2].app 无效"),
    "a lone surrogate": (third(payload="\ud800"), "tasks[2].payload 无效"),
    "NaN": (third(timeout=math.nan), "tasks[2].timeout 无效"),
    "NUL within a field": (third(app={"a": ["\0"]}), "tasks[2].app 无效"),
    "NUL in an unknown field": (third(unknown="\0"), "tasks[2].unknown 无效"),
    "NUL in a name": (third(**{"a\0": 1}), "tasks[2] 无效"),
    "NUL in a field that is no name": (third(**{"a b": "\0"}), "tasks[2] 无效"),
    "NUL in the group": ({"groupId": "\0", **third()}, "groupId 无效"),
    "a repeated field": (repeated("taskType"), "tasks[2].taskType 存在重复"),
    "a repeated field that is no name": (repeated("a b"), "tasks[2] 存在重复"),
    "a missing field": ({"tasks": [TASK, TASK, WITHOUT_TYPE]}, "tasks[2].taskType 缺失"),
    "a wrong type": (third(taskType="2"), "tasks[2].taskType 必须是整数"),
    "true": (third(priority=True), "tasks[2].priority 必须是整数"),
    "a control character": (third(app="a\tb"), "tasks[2].app 含有控制字符"),
    "an empty name": (third(userId=""), "tasks[2].userId 不能为空"),
    "a large payload": (third(payload="x" * (256 * 1024 + 1)), "tasks[2].payload 超过 256 KiB"),
    "a deep payload": (third(payload="[" * 101 + "]" * 101), "tasks[2].payload 嵌套超过 100 层"),
    "expiresIn": (third(expiresIn=0), "tasks[2].expiresIn 超出范围"),
    "maxWait": (third(maxWait=-1), "tasks[2].maxWait 超出范围"),
    "another group": ({"groupId": "g", **third(groupId="h")}, "tasks[2].groupId 与批次的 groupId 不同"),
    "a group that fits no path": ({"groupId": "a/b", **third()}, "groupId 含有不允许的字符"),
    "a group with a control character": ({"groupId": "a\x01", **third()}, "groupId 含有控制字符"),
    "a long group": ({"groupId": "g" * 129, **third()}, "groupId 过长"),
    "17 types": (each("taskType", range(1000)), "tasks[16].taskType 超出每个批次 16 种任务类型的上限"),
    "65 apps": (each("app", [f"app {n}" for n in range(65)]), "tasks[64].app 超出每个批次 64 个应用的上限"),
    "too many values": ({"tasks": [1] * 50_000}, "body 含有超过 50000 个JSON值"),
    "a long string": ({"tasks": "x" * (2 * 1024 * 1024)}, "body 含有过长的字符串"),
    "more than 8 MiB": ({"tasks": ["x" * 1_000_000] * 9}, "body 超过 8 MiB"),
}


@pytest.mark.parametrize("what", BAD)
async def test_bad_input_names_index_and_field(what: str) -> None:
    body, message = BAD[what]
    async with client("admin", Notifications()) as caller:
        content = body if isinstance(body, str) else json.dumps(body)
        response = await caller.post("/tasks/batch", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["message"].startswith(f"请求参数错误: {message}")


@pytest.mark.parametrize("payload", ["x" * 8000, "密" * 2600, '"' * 4000])
async def test_the_event_loop_goes_on(payload: str) -> None:
    """Invariant 16, in CPU time of this process: others of the machine do not count."""
    content = json.dumps({"tasks": [TASK | {"payload": payload}] * 1000}, ensure_ascii=False).encode()
    gaps: list[float] = []

    async def turns() -> None:
        last = time.process_time()
        while True:
            await asyncio.sleep(0)
            now = time.process_time()
            gaps.append(now - last)
            last = now

    async with client("admin") as caller:
        watch = asyncio.create_task(turns())
        await caller.post("/tasks/batch", content=content, headers={"Content-Type": "application/json"})
        watch.cancel()
    assert sorted(gaps)[-5] < 0.02


def test_the_keys_of_a_batch_are_nobody_else_s() -> None:
    assert [key_of("k", 0), key_of("k", 1), key_of(None, 3)] == ["k", "k\t1", None]  # no header has a tab
    assert where(2) == "tasks[2]."
