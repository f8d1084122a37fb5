"""The checks that need only Postgres."""

from __future__ import annotations

from dataclasses import dataclass

from infra.db.connection import Connection
from infra.db.repair import invariants, verify
from infra.db.repair.verify import AcceptedResult, Finding, TaskRow
from infra.settings import Settings

SCAN_S = 5.0
"""Seconds for what comes after the grace: the leader's turn, the signal, the workflow's step (and a lost lease)."""


@dataclass(frozen=True)
class Snapshot:
    """One moment of the database."""

    findings: list[Finding]
    tasks: dict[str, TaskRow]
    results: list[AcceptedResult]  # of the nodes that were asked for


async def read(connection: Connection, settings: Settings, *, settled: bool, gpu_ids: list[str]) -> Snapshot:
    """Run every check in one snapshot."""
    await verify.take_snapshot(connection)
    checks = (*invariants.ALWAYS, invariants.NOTHING_IN_FLIGHT) if settled else invariants.ALWAYS
    findings = [await verify.find(connection, check) for check in checks]
    allowed_s = settings.heartbeat_timeout + settings.leader_lease + SCAN_S
    findings.append(await verify.silent_but_active(connection, allowed_s))
    tasks = {row.task_id: row for row in await verify.tasks(connection)}
    return Snapshot(findings, tasks, await verify.results(connection, gpu_ids))
