"""A small fleet with a past, for the console to show: some of it lives, the rest are rows."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from dataclasses import dataclass

from infra.db.connection import Connection
from infra.db.session import Database
from tests.conftest import Api, MakeNode, eventually
from tests.db import rows
from tests.db.rows import Sql

RUNS, FAILS, WAITS = 903, 904, 905
"""Types: on nodes that live; of the past's failures; that no node has slots for."""
HOSTILE = "<img src=x onerror=window.hacked=1>\u202egnp.\u2066" + "w" * 60


def picture(width: int = 96, height: int = 64) -> str:
    """A PNG as base64."""
    lines = b"".join(
        b"\0" + bytes(value for x in range(width) for value in (40 + x, 90 + 2 * y, 200 - x)) for y in range(height)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return base64.b64encode(png).decode()


@dataclass(frozen=True)
class World:
    """The things that a test can name."""

    completed: str
    failed: str
    running: str
    waiting: str
    node: str
    webhook: str


async def build(api: Api, make_node: MakeNode) -> World:
    """Two nodes, one of them draining; tasks in every state; a webhook; a day of failures."""
    node = await make_node("gpu_01", [RUNS], maxConcurrentTasks=2, metadata={"gpuModel": "RTX 4090"})
    await make_node("gpu_02", [RUNS, FAILS], metadata={"gpuModel": "A100"})
    await api.post("/gpus/gpu_02/drain", {"reason": "new driver"})
    completed = await api.create(RUNS, json.dumps({"prompt": "a lighthouse at dusk"}), app="studio")
    put = await node.next_put()
    await api.succeed(put, {"image": picture(), "seed": 7})
    await api.until(completed, "COMPLETED")
    failed = await api.create(RUNS, app="studio", maxRetries=0)
    await api.say(await node.next_put(), "FAILED", "CUDA out of memory: 24576 MiB")
    await api.until(failed, "FAILED")
    running = await api.create(RUNS, app="studio", timeout=3_600_000)
    await api.say(await node.next_put(), "PROCESSING", progress=42)
    waiting = await api.create(WAITS, app="studio")
    bodies = [
        {"taskType": WAITS, "userId": f"user_{n % 3}", "app": f"app_{n % 4}", "payload": "{}", "priority": 1 + n % 2}
        for n in range(8)
    ]
    await api.post("/tasks/batch", {"tasks": bodies})
    await api.create(WAITS, app=HOSTILE)
    made = await api.post("/webhooks", {"url": "http://127.0.0.1:9/hook", "events": ["task.ended"]})
    await api.post(f"/webhooks/{made['webhookId']}/test")
    await with_database(api, a_past)
    return World(completed, failed, running, waiting, "gpu_01", made["webhookId"])


async def with_database(api: Api, work: object) -> None:
    """Run work on the stack's database."""
    database = Database(api.stack.services.database_url, connections=1)
    try:
        await database.run(work)  # type: ignore[arg-type]
    finally:
        await database.close()


async def a_past(connection: Connection) -> None:
    """Failures of an hour: all of one node's, which its peers completed, and some that fail everywhere."""
    await connection.execute("UPDATE gpus SET judged_since = clock_timestamp() - interval '2 h'")
    await rows.node(
        connection, "gpu_07", task_types=[FAILS], status="FAULTY", fault_reason="ECC errors", lineage="past",
        metadata='{"gpuModel": "RTX 3090"}', judged_since=_ago(7200), attended_epoch=1, attended_status="FAULTY",
    )  # fmt: skip
    for n in range(7):
        await _task(connection, f"past_bad_{n}", "COMPLETED", "gpu_02", 3000 - 60 * n)
        await _attempt(
            connection, f"past_bad_{n}", 1, "gpu_07", "FAILED", 3000 - 60 * n, f"CUDA error 700 at 0x7f{n}00"
        )
        await _attempt(connection, f"past_bad_{n}", 2, "gpu_02", "SUCCEEDED", 2990 - 60 * n)
    for n in range(20):
        await _task(connection, f"past_good_{n}", "COMPLETED", "gpu_02", 2000 - 60 * n)
        await _attempt(connection, f"past_good_{n}", 1, "gpu_02", "SUCCEEDED", 2000 - 60 * n)
    for n in range(3):
        await _task(connection, f"past_poison_{n}", "FAILED", "gpu_02", 900 - 60 * n, error_message="no such model v9")
        await _attempt(connection, f"past_poison_{n}", 1, "gpu_07", "FAILED", 905 - 60 * n, "no such model v9")
        await _attempt(connection, f"past_poison_{n}", 2, "gpu_02", "FAILED", 900 - 60 * n, "no such model v9")


def _ago(seconds: float) -> Sql:
    return Sql(f"clock_timestamp() - make_interval(secs => {seconds})")


async def _task(connection: Connection, task_id: str, status: str, gpu_id: str, ended_s: float, **more: object) -> None:
    await rows.task(
        connection, task_id, task_type=FAILS, status=status, app="studio", user_id="user_1",
        created_at=_ago(ended_s + 30), started_at=_ago(ended_s + 20), completed_at=_ago(ended_s),
        engine_started_at=_ago(ended_s + 30), timeout_ms=60_000, max_retries=1, attempts=1, **more,
    )  # fmt: skip
    moved = "UPDATE tasks SET gpu_id = %(gpu_id)s WHERE task_id = %(task_id)s"  # as a claim: the counts follow that
    await connection.execute(moved, {"gpu_id": gpu_id, "task_id": task_id})


async def _attempt(
    connection: Connection, task_id: str, attempt: int, gpu_id: str, outcome: str, ended_s: float, reason: str = ""
) -> None:
    await rows.attempt(
        connection, task_id, attempt=attempt, gpu_id=gpu_id, outcome=outcome, reason=reason or None,
        claimed_at=_ago(ended_s + 20), accepted_at=_ago(ended_s + 20), closed_at=_ago(ended_s),
        released_at=_ago(ended_s), collected_at=_ago(ended_s), blamed=outcome == "FAILED",
    )  # fmt: skip


async def forget(api: Api) -> None:
    """End what waits and runs, and delete the past."""
    await api.post("/tasks/cancel", {"filter": {"all": True}})

    async def is_over() -> bool:
        return int((await api.http.get("/tasks?status=QUEUED")).headers["X-Total-Count"]) == 0

    await eventually(is_over)

    async def delete(connection: Connection) -> None:
        for table in ("attempts", "tasks"):
            await connection.execute(f"DELETE FROM {table} WHERE task_id LIKE 'past_%%'")
        await connection.execute("DELETE FROM gpus WHERE gpu_id = 'gpu_07'")

    await with_database(api, delete)
