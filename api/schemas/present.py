"""Rows in the specification's form: field names, units (ms, s) and shapes."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from api.http.envelope import ok
from api.http.lists import Item
from infra.db.capacity import Capacity
from infra.db.connection import Row
from infra.db.gpus import at_ms
from infra.db.tasks import expected_wait_s, told_wait_s


def task(row: Row) -> dict[str, Any]:
    """TaskDO."""
    return _small_task(row) | {"payload": row.payload, "result": row.result}


def listed_task(row: Row) -> Item:
    """TaskDO in a list. A payload or result that the database has left out is too large."""
    return Item(_small_task(row), {"payload": row.payload, "result": row.result if row.has_result else b"null"})


def _small_task(row: Row) -> dict[str, Any]:
    return {
        "taskId": row.task_id,
        "displayId": row.display_id,
        "taskType": row.task_type,
        "status": row.status,
        "userId": row.user_id,
        "app": row.app,
        "priority": row.priority,
        "gpuId": row.gpu_id,
        "errorMessage": row.error_message,
        "retryCount": row.retry_count,
        "maxRetries": row.max_retries,
        "timeout": row.timeout_ms,
        "estimatedWaitTime": told_wait_s(row.estimated_wait_s),
        "createdAt": at_ms(row.created_at),
        "startedAt": at_ms(row.started_at),
        "completedAt": at_ms(row.completed_at),
        "updatedAt": at_ms(row.updated_at),
    }


def progress(row: Row, capacity: Capacity, ahead: int) -> dict[str, Any]:
    """TaskProgress: the node's own progress, else elapsed over usual duration, at most 99 (DESIGN).

    While the task waits, `ahead` tasks come before it, and the extension `waiting` says what it waits for.
    """
    percent, remaining_s = _progress(row, capacity, ahead)
    answer = {
        "taskId": row.task_id,
        "status": row.status,
        "progress": percent,
        "estimatedRemainingTime": remaining_s,
        "gpuId": row.gpu_id,
        "startTime": at_ms(row.started_at),
        "updateTime": at_ms(row.progress_at or row.updated_at),
        "queuePosition": ahead + 1 if row.status == "QUEUED" else 0,
    }
    if row.waiting_since is not None:
        answer["waiting"] = waiting(capacity, ahead) | {"since": at_ms(row.waiting_since)}
    return answer


def _progress(row: Row, capacity: Capacity, ahead: int) -> tuple[int, int | None]:
    """Percent, and seconds until the end (None if unknown)."""
    if row.status == "QUEUED":
        wait_s = expected_wait_s(ahead, capacity)
        return 0, None if wait_s is None else wait_s + round(capacity.usual_s)
    if row.status != "PROCESSING":
        return (100 if row.status == "COMPLETED" else 0), 0
    elapsed_s = max((row.now - row.started_at).total_seconds(), 0.0)  # the clock may have been set back
    if row.progress:
        return row.progress, max(0, round(elapsed_s * (100 - row.progress) / row.progress))
    percent = 0 if row.progress == 0 else min(99, int(100 * elapsed_s / max(capacity.usual_s, 0.001)))
    return percent, max(0, round(capacity.usual_s - elapsed_s))


def waiting(capacity: Capacity, ahead: int) -> dict[str, Any]:
    """Why a task waits, in words and in numbers (extension)."""
    nodes = capacity.nodes
    return {
        "reason": nodes.reason(),
        "ahead": ahead,
        "estimatedWaitTime": expected_wait_s(ahead, capacity),
        "nodes": nodes.nodes,
        "otherType": nodes.other_type,
        "vipOnly": nodes.vip_only,
        "full": nodes.full,
        "free": nodes.free,
        "faulty": nodes.faulty,
        "offline": nodes.offline,
        "backedOff": nodes.backed_off,
    }


def result(row: Row) -> bytes:
    """The answer with a TaskResult: the node's report, never parsed, plus `gpuId`; null as long as there is none."""
    data = {
        "taskId": row.task_id,
        "status": row.status,
        "result": None if row.result is None else Raw(_with_gpu(row.result.encode(), row.gpu_id)),
        "completedAt": at_ms(row.completed_at),
    }
    return msgspec.json.encode(ok(data))


class _NamesGpu(msgspec.Struct):
    """Reads from a JSON object whether it has a `gpuId` of its own."""

    gpuId: Raw | msgspec.UnsetType = msgspec.UNSET


def _with_gpu(reported: bytes, gpu_id: str) -> bytes:
    """The JSON object, or an object around another value, as it was reported, with `gpuId`."""
    reported = reported.strip()
    if not reported.startswith(b"{"):
        return msgspec.json.encode({"value": Raw(reported), "gpuId": gpu_id})
    if msgspec.json.decode(reported, type=_NamesGpu).gpuId is not msgspec.UNSET:
        return msgspec.json.encode(msgspec.json.decode(reported, type=dict[str, Raw]) | {"gpuId": gpu_id})
    separator = b"," if reported[1:-1].strip() else b""
    return b"%b%b%b" % (reported[:-1], separator, msgspec.json.encode({"gpuId": gpu_id})[1:])


def event(row: Row) -> dict[str, Any]:
    """One entry of a task's timeline (extension): a transition, or a note whose `from` equals its `to`."""
    return {
        "seq": row.seq,
        "from": row.from_status,
        "to": row.to_status,
        "attempt": row.attempt,
        "gpuId": row.gpu_id,
        "actor": row.actor,
        "reason": row.reason,
        "at": at_ms(row.at),
    }


def gpu(row: Row, beat_ms: int | None) -> dict[str, Any]:
    """GpuNodeInfo; `beat_ms` is the last beat as Redis remembers it."""
    return _small_gpu(row, beat_ms) | {"metadata": row.metadata}


def listed_gpu(row: Row, beat_ms: int | None) -> Item:
    """GpuNodeInfo in a list. Metadata that the database has left out is too large."""
    metadata = None if row.metadata_json is None else row.metadata_json.encode()
    return Item(_small_gpu(row, beat_ms), {"metadata": metadata})


def _small_gpu(row: Row, beat_ms: int | None) -> dict[str, Any]:
    return {
        "gpuId": row.gpu_id,
        "hostname": row.hostname,
        "vastInsId": row.vast_ins_id,
        "ip": row.ip,
        "port": row.port,
        "supportedTaskTypes": row.task_types,
        "supportedTaskPriority": row.priority_queue,
        "status": row.status,
        "lastHeartbeat": max(beat_ms or 0, at_ms(row.last_beat) or 0),
        "failureCount": row.failure_count,
        "taskFailureCount": row.task_failure_count,
        "version": row.version,
        "currentTasks": row.current_tasks,
        "maxConcurrentTasks": row.max_concurrent_tasks,
    }


def alert_id(seq: int) -> str:
    """`AlertInfo.id`."""
    return f"alert_{seq:03}"


def alert(row: Row) -> dict[str, Any]:
    """AlertInfo."""
    return {
        "id": alert_id(row.seq),
        "title": row.title,
        "message": row.message if row.count == 1 else f"{row.message}（共{row.count}次）",
        "level": row.level,
        "status": row.status,
        "source": row.source,
        "timestamp": at_ms(row.raised_at),
        "acknowledgedAt": at_ms(row.acknowledged_at),
        "acknowledgedBy": row.acknowledged_by,
    }


def instance(row: Row) -> dict[str, Any]:
    """One instance of the cluster, without its version."""
    return {
        "instance_id": row.instance_id,
        "status": "ACTIVE" if row.alive else "INACTIVE",
        "role": "LEADER" if row.leads else "FOLLOWER",
        "last_heartbeat": at_ms(row.last_beat),
        "start_time": at_ms(row.started_at),
    }


def audit_entry(row: Row) -> dict[str, Any]:
    """AuditEntry (extension)."""
    return {
        "id": row.id,
        "at": at_ms(row.at),
        "keyId": row.key_id,
        "owner": row.owner,
        "role": row.role,
        "action": row.action,
        "subject": row.subject,
        "detail": row.detail,
        "outcome": row.outcome,
    }
