"""The nodes' own logs (`workers.node.attempt_log`): what ran how often, and with which result."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.db.repair import verify
from infra.db.repair.verify import AcceptedResult, Finding
from infra.db.session import Database

FILE = "attempts.jsonl"
Attempt = tuple[str, int]  # task id, attempt


@dataclass
class NodeLogs:
    """The logs of some nodes, read together."""

    nodes: set[str] = field(default_factory=set)
    begun: Counter[Attempt] = field(default_factory=Counter)
    succeeded: dict[tuple[str, Attempt], str] = field(default_factory=dict)  # by (gpu id, attempt): SHA-256

    def add(self, path: Path) -> None:
        """Read a log, or the one in a state directory. Raises OSError. Skips a line that a crash has torn."""
        file = path / FILE if path.is_dir() else path
        for line in file.read_bytes().splitlines():
            try:
                event = json.loads(line)
                self._take(event, (event["taskId"], event["attempt"]))
            except (ValueError, KeyError, TypeError):
                continue

    def _take(self, event: dict[str, Any], attempt: Attempt) -> None:
        self.nodes.add(event["gpuId"])
        if event["event"] == "started":
            self.begun[attempt] += 1
        elif event["event"] == "succeeded":
            self.succeeded[event["gpuId"], attempt] = event["sha256"]

    async def check(self, results: Iterable[AcceptedResult], database: Database) -> list[Finding]:
        """Check that each attempt was executed at most once, and that each accepted result is its node's own."""
        twice = [f"{task_id}-{attempt} ran {n} times" for (task_id, attempt), n in self.begun.items() if n > 1]
        accepted, foreign = 0, []
        for row in results:
            accepted += 1
            logged = self.succeeded.get((row.gpu_id, (row.task_id, row.attempt)))
            if logged != row.sha256 and logged != await self._compact(row, database):
                foreign.append(f"{row.task_id}-{row.attempt} of {row.gpu_id}")
        return [
            Finding.of(4, "no attempt was executed twice", len(self.begun), twice),
            Finding.of(4, "an accepted result is the one that its node logged", accepted, foreign),
        ]

    async def _compact(self, row: AcceptedResult, database: Database) -> str:
        """The SHA-256 of a result that came as the answer to a dispatch: re-encoded, not the node's own text."""
        result = await database.run(lambda c: verify.result(c, row.task_id, row.attempt))
        text = json.dumps(json.loads(result), ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
