"""The audit log: who did what, written in the transaction that does it, without secrets or payloads.

Beats and reports of nodes are not recorded here: a task's timeline has the reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from infra.db.connection import Connection, columns


class Action(StrEnum):
    """The recorded actions."""

    TASK_CREATE = "task.create"
    TASK_BATCH = "task.batch"
    TASK_CANCEL = "task.cancel"
    TASK_RETRY = "task.retry"
    TASK_PRIORITY = "task.priority"
    TASKS_CANCEL = "tasks.cancel"
    TASKS_RETRY = "tasks.retry"
    GPU_REGISTER = "gpu.register"
    GPU_DEREGISTER = "gpu.deregister"
    GPU_FAULT = "gpu.fault"
    GPU_RECOVER = "gpu.recover"
    GPU_DRAIN = "gpu.drain"
    GPU_UNDRAIN = "gpu.undrain"
    ALERT_ACKNOWLEDGE = "alert.acknowledge"
    MONITOR_CHECK = "monitor.check"
    WEBHOOK_CREATE = "webhook.create"
    WEBHOOK_DELETE = "webhook.delete"
    WEBHOOK_ROTATE = "webhook.rotate"
    WEBHOOK_DISABLE = "webhook.disable"
    WEBHOOK_TEST = "webhook.test"
    WEBHOOK_REPLAY = "webhook.replay"
    KEY_CREATE = "key.create"
    KEY_REVOKE = "key.revoke"
    KEY_ROTATE = "key.rotate"
    CONSOLE_SIGN_IN = "console.sign_in"
    CONSOLE_LINK = "console.link"


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
    @property
    def node_lineage(self) -> str | None: ...


class Actor(NamedTuple):
    """An actor without a key: the command line, the program itself, or a person by a signal, which `key_id` names."""

    key_id: str | None
    owner: str
    role: str | None

    @property
    def node_lineage(self) -> None:
        """It may change any node (`Caller.node_lineage`)."""
        return None


SYSTEM = "system"
"""The owner of what the program does by itself."""
BY_ITSELF = Actor(None, SYSTEM, None)


_RECORD = (
    "INSERT INTO audit_log (key_id, owner, role, action, subject, detail, outcome)"
    " VALUES (%(key_id)s, %(owner)s, %(role)s, %(action)s, %(subject)s, %(detail)s, %(outcome)s)"
)
_HAS_ENTRY_OF = "SELECT EXISTS (SELECT FROM audit_log WHERE key_id = %(key_id)s)"
_FILTERS = {name: f"{name} = %({name})s" for name in ("key_id", "owner", "action")}


@dataclass(frozen=True)
class Entry:
    """A row of the audit log."""

    id: int
    at: datetime
    key_id: str | None
    """None for the command line, and for the program itself."""
    owner: str
    role: str | None
    action: str
    subject: str
    """The id of the object that was changed."""
    detail: str
    outcome: str


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
    return await connection.one(bool, _HAS_ENTRY_OF, {"key_id": by.key_id})


async def page(
    connection: Connection, filters: dict[str, object], *, limit: int, offset: int
) -> tuple[list[Entry], int]:
    """One page of entries, newest first, and their total. `filters`: key_id, owner, action.

    The total is counted from an index: only administrators ask, and rarely.
    """
    where = " AND ".join(_FILTERS[name] for name in filters) or "true"
    statement = (
        f"SELECT {columns(Entry)} FROM audit_log WHERE {where} ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s"
    )
    entries = await connection.all(Entry, statement, filters | {"limit": limit, "offset": offset})
    return entries, await connection.one(int, f"SELECT count(*) FROM audit_log WHERE {where}", filters)


async def before(
    connection: Connection, filters: dict[str, object], entry_id: int | None, *, limit: int
) -> list[Entry]:
    """The entries before one, newest first, or the newest; `filters` as of `page`. It counts nothing."""
    where = " AND ".join([*(_FILTERS[name] for name in filters), "id < %(before)s"])
    statement = f"SELECT {columns(Entry)} FROM audit_log WHERE {where} ORDER BY id DESC LIMIT %(limit)s"
    return await connection.all(Entry, statement, filters | {"before": entry_id or 2**62, "limit": limit})
