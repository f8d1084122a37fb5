"""The embedded Temporal development server, tuned for its single shard, and when it is ready.

By default the one shard's queues are polled 20 times a second, which costs up to 50 ms for every workflow task, and
every step is a synced write. On two cores a workflow with one local activity took 50-80 ms (20 a second with 16 at
once) by default, and takes 25-33 ms (50 a second) with the options below. Both are artefacts of one shard in SQLite: a
cluster has hundreds. The poll intervals (1 minute by default) bound how long work waits after a kill -9 that lost its
wake-up; 1 s costs nothing measurable.

By default the names of search attributes are read from the database for every workflow, so that new ones are known at
once: a tenth of the server's CPU in a burst. Ours exist before the server starts; attributes that are added later
are known within a minute. SQLite's log is written back at 32 MiB instead of 4, which saves another tenth.

A workflow is reported as stuck after three failures of its workflow task in a row, which take 20 s, instead of five,
which take 50 s.
"""

from __future__ import annotations

import re

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from infra.data_dir.layout import DataDir
from infra.temporal import search_attributes
from workers.stack.part import PartSpec
from workers.stack.process import installed

DYNAMIC_CONFIG = {
    "history.transferProcessorMaxPollRPS": "2000",
    "history.timerProcessorMaxPollRPS": "2000",
    "history.visibilityProcessorMaxPollRPS": "2000",
    "history.transferProcessorMaxPollInterval": '"1s"',
    "history.timerProcessorMaxPollInterval": '"1s"',
    "system.forceSearchAttributesCacheRefreshOnRead": "false",
    "system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute": "3",
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
}
PRAGMAS = {"journal_mode": "WAL", "synchronous": "NORMAL", "wal_autocheckpoint": "8000"}
LOOPBACK = "127.0.0.1"
# Our own question whether it is ready can come too early.
NOTEWORTHY = re.compile(r"level=(ERROR|FATAL)(?!.*Frontend is not healthy yet)|^[Ee]rror")


def part(data_dir: DataDir, port: int, ui_port: int, namespace: str) -> PartSpec:
    """The server as a part of the stack. Raises NotInstalled."""
    address = f"{LOOPBACK}:{port}"

    async def ready() -> bool:
        try:
            client = await Client.connect(address, namespace=namespace)
            await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
        except (RuntimeError, RPCError):  # RuntimeError: no connection
            return False
        return True

    return PartSpec(
        name="temporal",
        argv=(
            installed("temporal", "Temporal", "ORCHESTRATOR_TEMPORAL_ADDRESS"),
            *_options(data_dir.temporal.name, port, ui_port, namespace),
        ),
        cwd=data_dir.root,  # the name of its file becomes part of a URL, unquoted
        ready=ready,
        noteworthy=NOTEWORTHY,
    )


def _options(database: str, port: int, ui_port: int, namespace: str) -> list[str]:
    return [
        *("server", "start-dev", "--db-filename", database, "--namespace", namespace),
        *("--ip", LOOPBACK, "--port", str(port), "--ui-port", str(ui_port), "--ui-disable-news-fetch"),
        *("--log-level", "warn", "--disable-config-file", "--disable-config-env"),
        *_each("--dynamic-config-value", DYNAMIC_CONFIG),
        *_each("--sqlite-pragma", PRAGMAS),
        *_each("--search-attribute", search_attributes.WANTED),
    ]


def _each(flag: str, values: dict[str, str]) -> list[str]:
    return [word for key, value in values.items() for word in (flag, f"{key}={value}")]
