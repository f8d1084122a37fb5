"""A body that is all faults costs the interpreter little: pydantic reports them in one call (invariant 16)."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import BaseModel

from api.http.body import parse
from api.http.errors import BadRequest
from api.schemas.batches import CreateBatch
from api.schemas.operations import BulkCancel, BulkRetry
from api.schemas.steering import ChangeTask

UNKNOWN: dict[str, Any] = {f"unknown{n}": 1 for n in range(20_000)}
INTEGERS = ("taskType", "priority", "timeout", "maxRetries", "expiresIn", "deadline", "maxWait")
ALL_WRONG = {name: "x" for name in INTEGERS} | {name: 1 for name in ("userId", "app", "payload", "env", "groupId")}


@pytest.mark.parametrize(
    ("model", "body", "field"),
    [
        (BulkCancel, UNKNOWN, "unknown0"),
        (BulkRetry, {"filter": UNKNOWN}, "filter.unknown0"),
        (ChangeTask, {"priority": 1, **UNKNOWN}, "unknown0"),
        (BulkCancel, {"ids": [1] * 20_000}, "ids"),
        (CreateBatch, {"tasks": [ALL_WRONG] * 1000}, "tasks[0].taskType"),
        (CreateBatch, {"tasks": [5] * 20_000}, "tasks[0]"),
    ],
)
def test_the_first_of_many_faults_is_named_soon(model: type[BaseModel], body: dict[str, Any], field: str) -> None:
    took = []
    for _ in range(3):
        began = time.thread_time()
        with pytest.raises(BadRequest) as refused:
            parse(model, body)
        took.append(time.thread_time() - began)
    assert refused.value.field == field
    assert min(took) < 0.01
