"""Bulk calls that are refused: without a filter, or with unknown words in it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.whole_api import ask

MANY = [f"task_{n}" for n in range(1001)]
BAD: list[tuple[str, dict[str, Any]]] = [
    ("body", {}),
    ("body", {"ids": ["task_1"], "filter": {"app": "x"}}),
    ("ids", {"ids": []}),
    ("ids", {"ids": MANY}),
    ("ids", {"ids": [""]}),
    ("ids", {"ids": ["a\n"]}),
    ("ids", {"ids": [1]}),
    ("ids", {"ids": "task_1"}),
    ("body", {"ids": None}),
    ("body", {"ids": None, "filter": None}),
    ("filter", {"filter": {}}),
    ("body", {"filter": None}),
    ("filter", {"filter": []}),
    ("filter", {"filter": {"all": True, "app": "x"}}),
    ("filter.all", {"filter": {"all": False}}),
    ("filter.all", {"filter": {"all": 1}}),
    ("filter.taskTypes", {"filter": {"taskTypes": [1]}}),
    ("filter.task_type", {"filter": {"task_type": 1}}),
    ("filter.owner", {"filter": {"owner": "somebody"}}),
    ("filter", {"filter": {"密\u0001": 1}}),
    ("filter.app", {"filter": {"app": None}}),
    ("filter.app", {"filter": {"app": None, "status": "QUEUED"}}),
    ("filter.app", {"filter": {"app": ""}}),
    ("filter.app", {"filter": {"app": "a\u0007"}}),
    ("filter.userId", {"filter": {"userId": ["u"]}}),
    ("filter.status", {"filter": {"status": "WAITING"}}),
    ("filter.status", {"filter": {"status": ["QUEUED"]}}),
    ("filter.taskType", {"filter": {"taskType": "1"}}),
    ("filter.taskType", {"filter": {"taskType": True}}),
    ("filter", {"filter": {"taskType": 2**63}}),
    ("filter.gpuId", {"filter": {"gpuId": "a b"}}),
    ("filter.groupId", {"filter": {"groupId": 1}}),
    ("filter.endReason", {"filter": {"endReason": "cancelled"}}),
    ("filter.createdAfter", {"filter": {"createdAfter": 0}}),
    ("filter.createdAfter", {"filter": {"createdAfter": 1.5}}),
    ("filter.createdBefore", {"filter": {"createdBefore": 253402300800000}}),
    ("dryRun", {"ids": ["task_1"], "dryRun": "true"}),
    ("dryrun", {"ids": ["task_1"], "dryrun": True}),
    ("status", {"status": "QUEUED"}),
]


@pytest.mark.parametrize("path", ["/tasks/cancel", "/tasks/retry"])
@pytest.mark.parametrize(("field", "body"), BAD, ids=[f"{n}-{field}" for n, (field, _) in enumerate(BAD)])
async def test_a_bad_filter_is_refused_by_name(path: str, field: str, body: dict[str, Any]) -> None:
    response = await ask("admin", "POST", path, json=body)
    assert response.status_code == 400
    assert response.json()["message"].startswith(f"请求参数错误: {field} "), response.json()


async def test_a_retry_has_no_reason() -> None:
    response = await ask("admin", "POST", "/tasks/retry", json={"ids": ["task_1"], "reason": "x"})
    assert (response.status_code, "reason" in response.json()["message"]) == (400, True)


@pytest.mark.parametrize("body", [{"filter": {"all": True}}, {"filter": {"createdAfter": 1}}, {"ids": MANY[:1000]}])
async def test_what_is_right_passes(body: dict[str, Any]) -> None:
    """The filter comes as far as the database, which is away."""
    assert (await ask("admin", "POST", "/tasks/cancel", json=body)).status_code == 503
