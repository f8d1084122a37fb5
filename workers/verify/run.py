"""`gpu-orchestrator verify`: its entry in the command line."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from temporalio.service import RPCError

from infra.data_dir.embedded import forget_foreign
from infra.data_dir.layout import DataDir
from infra.db.session import Database
from infra.settings import Settings, load
from infra.temporal import access
from workers.stack.services import addresses
from workers.verify import node_logs, rows, workflows
from workers.verify.report import UNREAD, Report
from workflows.domain.queue_policy import QueuePolicy


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options. The addresses come from the environment, or from the embedded stack of DATA_DIR."""
    parser.add_argument("--settled", action="store_true", help="nothing may be in flight either")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument(
        "--node-log",
        action="append",
        default=[],
        type=Path,
        metavar="PATH",
        help="a node's state directory, or the attempts.jsonl in it; repeatable",
    )
    parser.epilog = "Exit status: 0 everything holds, 1 something does not, 2 something could not be read."


def run(args: argparse.Namespace) -> int:
    """Check, and return 0 if everything holds, 1 if something does not, 2 if something could not be read."""
    settings = located(load())
    if settings is None:
        sys.stderr.write("error: no address is set, and there is no embedded stack in ORCHESTRATOR_DATA_DIR\n")
        return UNREAD
    report = asyncio.run(verify(settings, settled=args.settled, logs=args.node_log))
    sys.stdout.write((report.as_json() if args.json else report.as_table()) + "\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(report.status)  # the SDK's own threads may outlive the interpreter, which would end with an abort then


def located(settings: Settings) -> Settings | None:
    """The settings with the embedded stack's addresses for those left unset, or None if there is no such stack."""
    if settings.database_url and settings.temporal_address:
        return settings
    if not settings.data_dir.is_dir():
        return None
    forget_foreign(settings)
    found = addresses(settings, DataDir.create(settings.data_dir))
    where = {"database_url": found.database_url, "temporal_address": found.temporal_address}
    return settings.model_copy(update=where)


async def verify(settings: Settings, *, settled: bool = False, logs: Sequence[Path] = ()) -> Report:
    """Check everything that can be checked now. The report names what cannot be read; nothing is written anywhere."""
    assert settings.database_url is not None
    report = Report(settled)
    database = Database(settings.database_url, policy=QueuePolicy(settings.vip_nodes_strict), connections=4)
    try:
        await _check(report, database, settings, logs)
    finally:
        await database.close()
    return report


async def _check(report: Report, database: Database, settings: Settings, paths: Sequence[Path]) -> None:
    nodes = node_logs.NodeLogs()
    for path in paths:
        try:
            nodes.add(path)
        except OSError as error:
            report.unread.append(f"{path}: {error.strerror}")
    gpu_ids = sorted(nodes.nodes)
    try:
        snapshot = await database.run(lambda c: rows.read(c, settings, settled=report.settled, gpu_ids=gpu_ids))
        report.findings += snapshot.findings
        if paths:
            report.findings += await nodes.check(snapshot.results, database)
    except (psycopg.Error, OSError) as error:
        report.unread.append(f"Postgres: {_first_line(error)}")
        return
    try:
        client = await access.connect(settings, lazy=False)
        keeps_tasks = timedelta(days=settings.retain_tasks)
        report.findings += await workflows.check(
            client, database, snapshot.tasks, settled=report.settled, keeps_tasks=keeps_tasks
        )
    except (RPCError, RuntimeError) as error:  # RuntimeError: no connection
        report.unread.append(f"Temporal: {_first_line(error)}")


def _first_line(error: Any) -> str:
    return str(error).partition("\n")[0]
