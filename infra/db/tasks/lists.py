"""Lists of tasks, page by page."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from infra.db.connection import Connection
from infra.db.ops import counters
from infra.db.tasks.filters import PLAN_ANEW, TaskFilter
from infra.db.tasks.queries import FROM, LARGE, SMALL, Task
from workflows.domain.task import TaskStatus


@dataclass(frozen=True)
class ListedTask(Task):
    """A task in a list: a payload or result that did not fit is None."""

    has_result: bool


_LIMIT = "LIMIT %(limit)s OFFSET %(offset)s"
MOST_COUNTED = 10_000
"""The most tasks that a list counts, and shows on all its pages, where no count is kept."""
FAR = 100_000
"""Rows beyond which a page is read from the other end of the list if that is nearer.

The total then says where the page begins. It may change between the two statements, which does not matter that far
back.
"""


class _Choice(NamedTuple):
    """The tasks that a list shows."""

    columns: tuple[str, ...]  # that must be equal
    by_kind: bool  # also, the type and the status are among `:types` and `:statuses`
    of_many: bool = False  # also, the status is among `:statuses`: there are too many types to look at each

    @classmethod
    def of(cls, filters: Collection[str]) -> _Choice:
        """Choose how to read the list: by kind, unless `status` is its only filter or it has none."""
        if set(filters) <= {"status"}:
            return cls(tuple(filters), by_kind=False)
        return cls(tuple(name for name in ("user_id", "gpu_id") if name in filters), by_kind=True)


def _ids(choice: _Choice, order: str) -> str:
    """The `display_id`s of a page, from one index.

    By kind, each type and status is a stretch of an index, however many other rows there are. Of many types, all
    entries of the user or the node are read from that index, once.
    """
    where = " AND ".join(f"t.{name} = %({name})s" for name in choice.columns) or "true"
    if choice.of_many:
        return f"""
            SELECT display_id FROM (
                   SELECT t.display_id FROM tasks t
                    WHERE {where} AND t.status = ANY (CAST(%(statuses)s AS text[])) OFFSET 0) those
             ORDER BY display_id {order} {_LIMIT}
        """
    if not choice.by_kind:
        return f"SELECT t.display_id FROM tasks t WHERE {where} ORDER BY t.display_id {order} {_LIMIT}"
    return f"""
        SELECT stretch.display_id
          FROM unnest(CAST(%(types)s AS bigint[])) AS a (task_type)
         CROSS JOIN unnest(CAST(%(statuses)s AS text[])) AS b (status)
         CROSS JOIN LATERAL (
               SELECT t.display_id FROM tasks t WHERE {where} AND t.task_type = a.task_type AND t.status = b.status
                ORDER BY t.display_id {order} LIMIT %(reach)s) stretch
         ORDER BY stretch.display_id {order} {_LIMIT}
    """


def _page(ids: str) -> str:
    """A page of these `display_id`s, the newest first.

    The largest payloads and results are not read until the others fit `room`.
    """
    return f"""
        WITH page AS MATERIALIZED (
            SELECT {SMALL}, t.purged_at, {LARGE} {FROM} WHERE t.display_id = ANY (ARRAY({ids}))),
        sized AS (
            SELECT display_id, field, sum(size) OVER (ORDER BY size, field, display_id) AS together
              FROM page
             CROSS JOIN LATERAL (VALUES ('payload', octet_length(payload)), ('result', octet_length(result)))
                   AS f (field, size)
             WHERE size IS NOT NULL),
        fitting AS (SELECT display_id, array_agg(field) AS fields FROM sized WHERE together <= %(room)s GROUP BY 1)
        SELECT {SMALL}, CASE WHEN 'payload' = ANY (f.fields) THEN t.payload END AS payload,
               CASE WHEN 'result' = ANY (f.fields) THEN t.result END AS result, t.result IS NOT NULL AS has_result
          FROM page t LEFT JOIN fitting f USING (display_id)
         ORDER BY t.display_id DESC
        """


_FILTERS = [(), ("status",), ("task_type",), ("user_id",), ("gpu_id",), ("user_id", "gpu_id")]
_CHOICES = [_Choice.of(filters) for filters in _FILTERS]
_CHOICES += [one._replace(of_many=True) for one in _CHOICES if one.by_kind]
_PAGES = {(one, order): _page(_ids(one, order)) for one in _CHOICES for order in ("DESC", "ASC")}


async def page(
    connection: Connection, chosen: TaskFilter, *, limit: int, offset: int, room: int
) -> tuple[list[ListedTask], int]:
    """One page of tasks, newest first, and their total.

    The total is a kept count where there is one; otherwise a total beyond MOST_COUNTED only says that there are more,
    and a page from there on is empty: it would be read from the beginning of the list.
    Payloads and results are `room` bytes at most: the largest are null, and a result that is left out has `has_result`.
    """
    if (kept := chosen.kept) is not None:
        return await _kept_page(connection, kept, limit=limit, offset=offset, room=room)
    await connection.execute(PLAN_ANEW)
    total = await connection.one(int, _count(chosen), chosen.values | {"most": MOST_COUNTED + 1})
    ids = f"SELECT t.display_id FROM tasks t WHERE {chosen.where} ORDER BY t.display_id DESC {_LIMIT}"
    values = chosen.values | {"limit": limit, "offset": offset, "room": room}
    is_there = offset < min(total, MOST_COUNTED)
    return (await connection.all(ListedTask, _page(ids), values) if is_there else []), total


def _count(chosen: TaskFilter) -> str:
    return f"SELECT count(*) FROM (SELECT FROM tasks t WHERE {chosen.where} LIMIT %(most)s) counted"


async def _kept_page(
    connection: Connection, filters: dict[str, Any], *, limit: int, offset: int, room: int
) -> tuple[list[ListedTask], int]:
    """`filters`: status, task_type, gpu_id, user_id."""
    whose = {name: filters[name] for name in ("user_id", "gpu_id") if name in filters}
    status, task_type = filters.get("status"), filters.get("task_type")
    kinds = await counters.tasks_by_kind(connection, **whose, task_type=task_type)
    types: set[int | None] = {kind for kind, _ in kinds}
    total = counters.matching(kinds, status=status, task_type=task_type)
    if offset >= total:
        return [], total
    newest_first = offset < max(FAR, total // 2)
    limit = min(limit, total - offset)
    skipped = offset if newest_first else total - offset - limit
    values = {
        **filters,
        "types": sorted(one for one in types if one is not None) if task_type is None else [task_type],
        "statuses": list(TaskStatus) if status is None else [status],  # all: a task may move in between
        "limit": limit,
        "offset": skipped,
        "reach": limit + skipped,
        "room": room,
    }
    choice = _Choice.of(filters)
    choice = choice._replace(of_many=choice.by_kind and task_type is None and None in types)
    statement = _PAGES[choice, "DESC" if newest_first else "ASC"]
    return await connection.all(ListedTask, statement, values), total
