"""Takes histories: `python -m tests.workflows.record`, or with words (`SCENARIOS`) only some of them.

Run it only when a workflow's commands change on purpose; open runs of the old commands must still replay.
"""

from __future__ import annotations

import asyncio
import sys

from tests.workflows.record import attempts, background, ends, grants, nodes
from tests.workflows.record.recorder import HISTORIES, recording
from workers.stack.temporal import DYNAMIC_CONFIG

SUGGEST_AFTER = 60
"""Events after which the server of `CONTINUED` suggests to continue as new, so that no history has a thousand."""
USUAL = {
    one.__name__: one
    for one in (
        attempts.tasks,
        attempts.misled,
        grants.granted_falsely,
        attempts.claimed,
        grants.granted_first,
        attempts.short,
        grants.waiting,
        ends.endings,
        ends.cancelled,
        nodes.nodes,
        nodes.commanded,
        nodes.drained,
        attempts.handed_back,
        attempts.stopped_beside,
        background.operation,
        background.webhooks,
        background.retention,
    )
}
CONTINUED = {
    "operation": background.operation_continued,
    "webhooks": background.webhook_continued,
    "continued": background.task_and_node_continued,
}
SCENARIOS = USUAL | CONTINUED


async def record(words: list[str]) -> None:
    """Take the histories of these scenarios."""
    HISTORIES.mkdir(exist_ok=True)
    if usual := [USUAL[word] for word in words if word in USUAL]:
        async with recording() as recorder:
            for scenario in usual:
                await scenario(recorder)
    DYNAMIC_CONFIG["limit.historyCount.suggestContinueAsNew"] = str(SUGGEST_AFTER)
    if continued := [CONTINUED[word] for word in words if word in CONTINUED]:
        async with recording() as recorder:
            for scenario in continued:
                await scenario(recorder)


if __name__ == "__main__":
    if unknown := set(sys.argv[1:]) - set(SCENARIOS):
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    asyncio.run(record(sys.argv[1:] or list(SCENARIOS)))
