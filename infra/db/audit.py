"""The audit log: who did what, written in the transaction that does it, without secrets or payloads.

Beats and reports of nodes are not recorded here: a task's timeline has the reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from sqlalchemy import text

from infra.db.connection import Connection, Row


class Action(StrEnum):
    """The recorded actions."""

    TASK_CREATE = "task.create"
    GPU_REGISTER = "gpu.register"
    GPU_DEREGISTER = "gpu.deregister"
    GPU_FAULT = "gpu.fault"
    GPU_RECOVER = "gpu.recover"
    ALERT_ACKNOWLEDGE = "alert.acknowledge"
    MONITOR_CHECK = "monitor.check"
    KEY_CREATE = "key.create"
    KEY_REVOKE = "key.revoke"
    KEY_ROTATE = "key.rotate"


class Outcome(StrEnum):
    """The result of an action."""

    DONE = "DONE"
    UNCHANGED = "UNCHANGED"  # it was so already


class By(Protocol):
    """An actor; a `Caller` is one."""

    @property
    def key_id(self) -> str | None: ...
    @property
    def owner(self) -> str: ...
    @property
    def role(self) -> str | None: ...


class Actor(NamedTuple):
    """An actor without a key: the command line, the program itself, or a person by a signal, which `key_id` names."""

    key_id: str | None
    owner: str
    role: str | None


_RECORD = text(
    "INSERT INTO audit_log (key_id, owner, role, action, subject, detail, outcome)"
    " VALUES (:key_id, :owner, :role, :action, :subject, :detail, :outcome)"
)
_HAS_ENTRY_OF = text("SELECT EXISTS (SELECT FROM audit_log WHERE key_id = :key_id)")
_FILTERS = {"key_id": "key_id = :key_id", "owner": "owner = :owner", "action": "action = :action"}


def values(by: By, action: Action, subject: str, detail: str = "", *, changed: bool = True) -> dict[str, object]:
    """The columns of an entry, for a statement that writes it together with its subject."""
    outcome = Outcome.DONE if changed else Outcome.UNCHANGED
    who = {"key_id": by.key_id, "owner": by.owner, "role": by.role}
    return {**who, "action": action, "subject": subject, "detail": detail, "outcome": outcome}


async def record(
    connection: Connection, by: By, action: Action, subject: str, detail: str = "", *, changed: bool = True
) -> None:
    """Add an entry. `detail` is for people."""
    await connection.execute(_RECORD, values(by, action, subject, detail, changed=changed))


async def has_entry_of(connection: Connection, by: By) -> bool:
    """Whether anything was recorded of a key, or of a signal, which acts once."""
    return bool((await connection.execute(_HAS_ENTRY_OF, {"key_id": by.key_id})).scalar_one())


async def page(
    connection: Connection, filters: dict[str, object], *, limit: int, offset: int
) -> tuple[Sequence[Row], int]:
    """One page of entries, newest first, and their total. `filters`: key_id, owner, action.

    The total is counted from an index: only administrators ask, and rarely.
    """
    where = " AND ".join(_FILTERS[name] for name in filters) or "true"
    statement = text(f"SELECT * FROM audit_log WHERE {where} ORDER BY id DESC LIMIT :limit OFFSET :offset")
    rows = await connection.execute(statement, filters | {"limit": limit, "offset": offset})
    total = await connection.execute(text(f"SELECT count(*) FROM audit_log WHERE {where}"), filters)
    return rows.all(), int(total.scalar_one())
