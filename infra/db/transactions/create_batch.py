"""Creating many tasks at once: all or none (ADR 0040).

Their rows are written first, with the places that single creations would have got at that moment; nobody else sees
them. The locks of the types come last, for a moment before the commit, so that either the batch sees a free slot or its
release sees the batch. The free slots are assigned after the commit, as when a node registers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import msgspec

from infra.db import clock, locks
from infra.db.access import audit
from infra.db.access.audit import Action
from infra.db.access.callers import Caller
from infra.db.connection import Connection
from infra.db.ops import counters
from infra.db.queue.joining import Fronts, Joins, Pools, Queues
from infra.db.slots import capacity, free_nodes
from infra.db.slots.capacity import Capacity
from infra.db.slots.eligibility import Wanted
from infra.db.slots.wait_estimate import estimated_ahead, expected_wait_s, stored_wait
from infra.db.tasks import outbox, repetitions, timeline
from infra.db.tasks.new_task import NewTask, StoredTask, TimeBounds
from workflows.domain import shares
from workflows.domain.errors import DeadlinePassed, IdempotencyConflict, TooManyWaiting, WaitTooLong

PIECE = 1024 * 1024
"""Size in characters at which the rows are split into another statement."""
FRONT = 2_000
"""The most places of the queues that the estimates count, over all types."""

_GIVEN = [one.name for one in fields(NewTask) if one.name != "expires_at"]
_TYPES = {"task_type": "bigint", "priority": "bigint", "queue_class": "smallint", "timeout_ms": "bigint",
          "max_retries": "integer", "deadline": "timestamptz"}  # fmt: skip
_AS = ", ".join(f"{name} {_TYPES.get(name, 'text')}" for name in _GIVEN)
_CREATE = f"""
    WITH created AS (
        INSERT INTO tasks ({", ".join(_GIVEN)}, expires_at, status, estimated_wait_s, queue_rank, waiting_since,
                           event_seq)
        SELECT {", ".join(_GIVEN)}, {clock.NOW} + make_interval(secs => expires_in_s), 'QUEUED',
               (CAST(%(waits)s AS bigint[]))[n], (CAST(%(ranks)s AS float[]))[n], {clock.NOW}, 1
          FROM json_to_recordset(CAST(%(rows)s AS json)) AS r(n integer, expires_in_s float, {_AS}) ORDER BY n
            ON CONFLICT (lineage, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
     RETURNING task_id, display_id),
    event AS ({timeline.ADD}),
    start AS ({outbox.ADD})
    SELECT task_id, display_id FROM created
    """
_RANK = """
    UPDATE tasks t SET queue_rank = placed.rank
      FROM unnest(CAST(%(task_ids)s AS text[]), CAST(%(ranks)s AS float[])) AS placed(task_id, rank)
     WHERE t.task_id = placed.task_id
    """
_PAST = f"""
    SELECT CAST(n AS integer) - 1 FROM unnest(CAST(%(deadlines)s AS timestamptz[])) WITH ORDINALITY AS d(at, n)
     WHERE d.at <= {clock.NOW} ORDER BY n LIMIT 1
    """


@dataclass(frozen=True)
class Entry:
    """A task of a batch, with the fleet as it sees it."""

    task: NewTask
    bounds: TimeBounds
    weight: float
    capacity: Capacity

    def joins(self, pools: Pools, pool: Iterable[int]) -> Joins:
        """The task as it joins the queue, in this pool."""
        task = self.task
        flow = shares.named(task.flow, task.app)
        return Joins(task.task_type, task.queue_class, flow, self.weight, pools.number(pool))


@dataclass(frozen=True)
class CreatedBatch:
    """The rows in order; not `is_new`: those of an earlier request with the same key."""

    rows: Sequence[StoredTask]
    is_new: bool


class _New(NamedTuple):
    task_id: str
    display_id: int


def key_of(idempotency_key: str | None, index: int) -> str | None:
    """The Idempotency-Key of a task of a batch. The first task has the batch's, so that no single creation can have it;
    the others' contain a tab, so that no header can carry them."""
    return idempotency_key if idempotency_key is None or index == 0 else f"{idempotency_key}\t{index}"


def written(tasks: Sequence[tuple[NewTask, TimeBounds]]) -> list[str]:
    """The rows as JSON, in pieces. Takes a while: not for the event loop."""
    pieces: list[list[bytes]] = [[]]
    size = 0
    for row in _rows(tasks):
        if size > PIECE:
            pieces.append([])
            size = 0
        pieces[-1].append(row)
        size += len(row)
    return [f"[{b','.join(piece).decode()}]" for piece in pieces]


def _rows(tasks: Sequence[tuple[NewTask, TimeBounds]]) -> Iterator[bytes]:
    for n, (task, bounds) in enumerate(tasks, 1):
        expires_in_s = None if bounds.expires_in_ms is None else bounds.expires_in_ms / 1000
        yield msgspec.json.encode({**task.__dict__, "n": n, "expires_in_s": expires_in_s})


async def create(
    connection: Connection,
    entries: Sequence[Entry],
    pieces: Sequence[str],
    *,
    by: Caller,
    max_waiting: int | None = None,
    claims_slot: bool = True,
) -> CreatedBatch:
    """Write the rows (`pieces`: see `written`), their entries in the outbox and one in the audit log, and enqueue them.

    `claims_slot`: the caller assigns free slots after the commit. Raises IdempotencyConflict, TooManyWaiting,
    DeadlinePassed, WaitTooLong: then nothing may be committed.
    """
    tasks = [one.task for one in entries]
    await locks.request(connection, tasks[0].lineage, tasks[0].idempotency_key)
    if max_waiting is not None:
        await locks.users(connection, {task.user_id for task in tasks})
    if seen := await repetitions.seen(connection, tasks):
        return CreatedBatch(seen, is_new=False)
    await _check_deadlines(connection, tasks)
    if max_waiting is not None:
        await _check_cap(connection, tasks, max_waiting)
    entries = await _up_to_date(connection, entries)
    pools = Pools()
    joining = [one.joins(pools, one.capacity.clock) for one in entries]
    queues = await Queues.read(connection, pools, joining)
    ranks = queues.ranks(joining)
    unfinished = await counters.unfinished_by_type(connection, {task.task_type for task in tasks})
    ahead = await _ahead(connection, entries, ranks)
    waits = _waits(entries, ahead, unfinished, claims_slot=claims_slot)
    display_ids = await _write(connection, pieces, {"ranks": ranks, "waits": waits, "actor": f"key:{by.key_id}"})
    if len(display_ids) < len(tasks):  # a program of the previous version was faster
        if not display_ids and (seen := await repetitions.seen(connection, tasks)):
            return CreatedBatch(seen, is_new=False)
        raise IdempotencyConflict
    await _record(connection, by, tasks, display_ids)
    await locks.types(connection, pools.types)
    ranks = await _move_on(connection, tasks, joining, queues) or ranks
    if any(entry.bounds.max_wait_s is not None for entry in entries):  # others may have joined since
        ahead = await _ahead(connection, entries, ranks, are_written=True)
        await _check_free(connection, entries, ahead, _waits(entries, ahead, unfinished, claims_slot=claims_slot))
    rows = zip(tasks, waits, strict=True)
    return CreatedBatch([StoredTask(one.task_id, display_ids[one.task_id], "QUEUED", wait) for one, wait in rows], True)


async def _up_to_date(connection: Connection, entries: Sequence[Entry]) -> list[Entry]:
    """The entries. Those with a `maxWait` get the fleet as it is now; the others' may be half a second old.

    No other batch with a `maxWait` counts the same slots until the transaction ends.
    """
    limited = [entry for entry in entries if entry.bounds.max_wait_s is not None]
    if limited:
        await locks.waits(connection, {other for entry in limited for other in entry.capacity.pool})
    now: dict[Wanted, Capacity] = {}
    found = []
    for entry in entries:
        if entry.bounds.max_wait_s is not None:
            wanted = Wanted.of_new(entry.task)
            now[wanted] = now.get(wanted) or await capacity.read(connection, wanted)
            entry = replace(entry, capacity=now[wanted])
        found.append(entry)
    return found


async def _ahead(
    connection: Connection, entries: Sequence[Entry], ranks: Sequence[float], *, are_written: bool = False
) -> list[tuple[int, bool]]:
    """The number of tasks before each one, and whether there may be more (`Fronts.join`)."""
    pools = Pools()
    joining = [one.joins(pools, one.capacity.pool) for one in entries]
    fronts = await Fronts.read(connection, pools, max(1, FRONT // len(pools.types)), but_own=are_written)
    return [fronts.join(one, rank) for one, rank in zip(joining, ranks, strict=True)]


async def _check_free(
    connection: Connection, entries: Sequence[Entry], before: Sequence[tuple[int, bool]], waits: Sequence[int]
) -> None:
    """Check, under the locks of the types, that each task with `maxWait` 0 still has a free slot.

    `before`: see `Fronts.join`. Raises WaitTooLong.
    """
    asked = {index: Wanted.of_new(one.task) for index, one in enumerate(entries) if one.bounds.max_wait_s == 0}
    free = {wanted: await free_nodes.slots(connection, wanted) for wanted in set(asked.values())}
    for index, wanted in asked.items():
        if before[index][0] >= free[wanted]:
            raise WaitTooLong(waits[index], where(index))


async def _write(connection: Connection, pieces: Sequence[str], values: Mapping[str, object]) -> dict[str, int]:
    """The display id of each task that was written."""
    display_ids: dict[str, int] = {}
    for piece in pieces:
        display_ids |= dict(await connection.all(_New, _CREATE, {**values, "rows": piece}))
    return display_ids


async def _move_on(
    connection: Connection, tasks: Sequence[NewTask], joining: Sequence[Joins], queues: Queues
) -> list[float] | None:
    """Give the tasks their places in the queues as they are now, if these have moved on since they were read.

    Returns the new ranks, if there are any.
    """
    if (now := await queues.moved_on(connection, joining)) is None:
        return None
    ranks = now.ranks(joining)
    await connection.execute(_RANK, {"task_ids": [task.task_id for task in tasks], "ranks": ranks})
    return ranks


async def _check_cap(connection: Connection, tasks: Sequence[NewTask], max_waiting: int) -> None:
    more = Counter(task.user_id for task in tasks)
    if max((more + await counters.queued_of(connection, more)).values()) > max_waiting:
        raise TooManyWaiting


async def _check_deadlines(connection: Connection, tasks: Sequence[NewTask]) -> None:
    deadlines = [task.deadline for task in tasks]
    if any(deadlines):
        index = await connection.one_or_none(int, _PAST, {"deadlines": deadlines})
        if index is not None:
            raise DeadlinePassed(where(index))


def where(index: int) -> str:
    """The prefix that names a task of a batch before its field."""
    return f"tasks[{index}]."


async def _record(connection: Connection, by: Caller, tasks: Sequence[NewTask], display_ids: Mapping[str, int]) -> None:
    first, last = display_ids[tasks[0].task_id], display_ids[tasks[-1].task_id]
    detail = f"{len(tasks)} tasks, displayId {first} to {last}"
    await audit.record(connection, by, Action.TASK_BATCH, tasks[0].task_id, detail)


def _waits(
    entries: Sequence[Entry], before: Sequence[tuple[int, bool]], unfinished: Mapping[int, int], *, claims_slot: bool
) -> list[int]:
    """The stored wait of each task; `before`: see `Fronts.join`. Raises WaitTooLong."""
    waits = []
    for index, (entry, (ahead, is_more)) in enumerate(zip(entries, before, strict=True)):
        if is_more:
            ahead = estimated_ahead(ahead, unfinished[entry.task.task_type], entry.capacity)
        waits.append(stored_wait(_wait_s(entry, ahead, index, claims_slot=claims_slot)))
    return waits


def _wait_s(entry: Entry, ahead: int, index: int, *, claims_slot: bool) -> int | None:
    """The estimated wait in seconds of a task with `ahead` before it. Raises WaitTooLong.

    With `maxWait` 0 there must be enough free slots for this task and for those before it.
    """
    seen = entry.capacity
    wait_s = expected_wait_s(ahead, seen)
    free = seen.nodes.free_slots if claims_slot else 0
    if ahead >= free:
        try:
            entry.bounds.check_wait(wait_s)
        except WaitTooLong as error:
            raise WaitTooLong(error.retry_after_s, where(index)) from None
    return wait_s
