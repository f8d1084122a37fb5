"""The attempt log: one JSON line per event, for whoever checks afterwards that nothing ran twice or got lost."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from pathlib import Path

from workers.node.journal import Journal
from workers.node.records import Record

log = logging.getLogger(__name__)


class AttemptLog:
    """`attempts.jsonl` in the state directory; without a directory nothing is written.

    Events: accepted, started, succeeded (with the SHA-256 of the result text, UTF-8), failed and canceled (also handed
    back, and killed at the deadline; both with the message). `time` is ms since 1970.
    """

    def __init__(self, directory: Path | None, gpu_id: str) -> None:
        self._file = Journal(directory / "attempts.jsonl") if directory else None
        self._gpu_id = gpu_id

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
            self._file.append(json.dumps(line))
        except OSError as error:
            log.error("cannot write the attempt log: %s", error)

    def close(self) -> None:
        """Nothing is written after this."""
        if self._file is not None:
            self._file.close()
