"""A task's result: the node's report, spliced into the answer without being parsed."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from api.http.envelope import ok
from api.schemas.fields import unix_ms
from infra.db.tasks.queries import Task


def shown(row: Task) -> bytes:
    """The answer with a TaskResult: the node's report, never parsed, plus `gpuId`; null as long as there is none."""
    data = {
        "taskId": row.task_id,
        "status": row.status,
        "result": None if row.result is None else Raw(_with_gpu(row.result.encode(), row.gpu_id)),
        "completedAt": unix_ms(row.completed_at),
    }
    return msgspec.json.encode(ok(data))


class _NamesGpu(msgspec.Struct):
    """Reads from a JSON object whether it has a `gpuId` of its own."""

    gpuId: Raw | msgspec.UnsetType = msgspec.UNSET


def _with_gpu(reported: bytes, gpu_id: str | None) -> bytes:
    """The JSON object, or an object around another value, as it was reported, with `gpuId`."""
    reported = reported.strip()
    if not reported.startswith(b"{"):
        return msgspec.json.encode({"value": Raw(reported), "gpuId": gpu_id})
    if msgspec.json.decode(reported, type=_NamesGpu).gpuId is not msgspec.UNSET:
        return msgspec.json.encode(msgspec.json.decode(reported, type=dict[str, Raw]) | {"gpuId": gpu_id})
    separator = b"," if reported[1:-1].strip() else b""
    return b"%b%b%b" % (reported[:-1], separator, msgspec.json.encode({"gpuId": gpu_id})[1:])
