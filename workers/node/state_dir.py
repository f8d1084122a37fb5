"""The state directory: what a restarted agent must know of the one before it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from workers.node.errors import StateDirTaken
from workers.node.journal import Journal, private
from workers.node.records import Record

log = logging.getLogger(__name__)

_BLOATED = 64 * 1024 * 1024  # bytes


class StateDir:
    """`records.jsonl`, one record a line, the last line of an id counts; a lock.

    Writes survive the death of the agent, not the loss of power in the moment after them: what ran then is dead too.
    """

    def __init__(self, path: Path) -> None:
        """Lock the directory for one agent; raises StateDirTaken."""
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._records = Journal(path / "records.jsonl")
            self._bloated = _BLOATED
        except OSError as error:
            raise StateDirTaken(f"cannot use the state directory {path}: {error}") from None
        if path.stat().st_mode & 0o022:
            log.warning("others may write in the state directory: chmod go-w %s", path)

    @property
    def bloated(self) -> bool:
        """Whether most of the file must be lines that no longer count."""
        return self._records.size > self._bloated

    def load(self) -> list[Record]:
        """Load the records of earlier agents; a line that was torn by a crash is passed over."""
        found: dict[str, Record] = {}
        for line in (self.path / "records.jsonl").read_text(errors="replace").splitlines():
            try:
                record = Record.from_json(json.loads(line))
            except (ValueError, TypeError, KeyError):
                log.warning("a line of %s is not a record", self.path / "records.jsonl")
                continue
            found.pop(record.id, None)
            found[record.id] = record
        self.rewrite(found.values())
        return list(found.values())

    def append(self, record: Record) -> None:
        """Raises OSError."""
        self._records.append(json.dumps(record.to_json()))

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace all lines; the old ones stay where there is no room for the new ones as well."""
        fresh = self.path / "records.jsonl.new"
        try:
            with open(fresh, "w", opener=private) as file:
                file.writelines(json.dumps(record.to_json()) + "\n" for record in records)
        except OSError as error:
            log.error("cannot rewrite %s: %s", self.path / "records.jsonl", error)
            fresh.unlink(missing_ok=True)
        else:
            fresh.replace(self.path / "records.jsonl")
            self._records.close()
            self._records = Journal(self.path / "records.jsonl")
        self._bloated = max(_BLOATED, 2 * self._records.size)

    def close(self) -> None:
        """Let the next agent in."""
        self._records.close()
        os.close(self._lock)
