"""The attempt log: one JSON line per event, for whoever checks afterwards that nothing ran twice or got lost."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from pathlib import Path
from typing import BinaryIO

from workers.node.records import Record
from workers.node.state_dir import private

log = logging.getLogger(__name__)


def _open(path: Path) -> BinaryIO:
    return open(path, "a+b", buffering=0, opener=private)


class AttemptLog:
    """`attempts.jsonl` in the state directory; without a directory nothing is written.

    Events: accepted, started, succeeded (with the SHA-256 of the result text, UTF-8), failed and canceled (also handed
    back, and killed at the deadline; both with the message). `time` is ms since 1970.
    """

    def __init__(self, directory: Path | None, gpu_id: str) -> None:
        self._file = _open(directory / "attempts.jsonl") if directory else None
        self._gpu_id = gpu_id
        self._end_torn_line()

    def write(self, event: str, record: Record) -> None:
        """One event; a full disk is logged and does not stop the work."""
        if self._file is None:
            return
        line: dict[str, object] = {
            "event": event,
            "id": record.id,
            "taskId": record.task_id,
            "attempt": record.attempt,
            "taskType": record.task_type,
            "gpuId": self._gpu_id,
            "time": time.time_ns() // 1_000_000,
        }
        if record.output is not None:
            line["sha256"] = hashlib.sha256(record.output.encode()).hexdigest()
        if record.error is not None:
            line["message"] = record.error
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            log.error("cannot write the attempt log: %s", error)

    def close(self) -> None:
        """Nothing is written after this."""
        if self._file is not None:
            self._file.close()

    def _end_torn_line(self) -> None:
        """A crash in the middle of a line must not spoil the next one too."""
        if self._file is None or self._file.tell() == 0:
            return
        self._file.seek(-1, 2)
        if self._file.read(1) != b"\n":
            self._file.write(b"\n")
