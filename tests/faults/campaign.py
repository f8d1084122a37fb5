"""One run: load and faults together, then heal, drain, and check everything that must hold."""

from __future__ import annotations

import asyncio
import bisect
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg
from temporalio.client import Client

from infra.db.access import api_keys
from infra.db.access.api_keys import NewKey
from infra.db.access.audit import Actor
from infra.db.session import Database
from infra.settings import ENV_PREFIX
from tests.faults import cancelling, careless, verdict
from tests.faults.bad_nodes import all_of_them
from tests.faults.cancelling import Cancelling
from tests.faults.careless import Careless
from tests.faults.clients import PATIENCE, Clients
from tests.faults.figures import Figures
from tests.faults.nemesis import Nemesis
from tests.faults.operator import Operator
from tests.faults.plan import Plan, faults
from tests.faults.system import KEY, NODES, PARTS, System, running
from workers.stack.logs import Log
from workflows.domain.role import Role

JOINS = 0.15
"""The share of the load's time after which the bad nodes join."""
CARELESS = 4
"""Honest tasks for each careless one."""
CANCELLED = 4
"""Honest tasks for each one that its user cancels."""
HEAL_S = 60.0
CLOSE_S = 30.0
UNFINISHED = "SELECT count(*) FROM tasks WHERE completed_at IS NULL"
ENDS = "SELECT extract(epoch FROM completed_at)::float FROM tasks WHERE completed_at IS NOT NULL ORDER BY 1"


async def run(plan: Plan, log: Log, folder: Path | None = None) -> Figures:
    """The figures of one run on a fresh stack of its own, in a scratch folder unless one is given."""
    with tempfile.TemporaryDirectory(prefix="gpu-orchestrator-faults-") as scratch:
        async with (
            running(plan, folder or Path(scratch), log) as system,
            _http(system, KEY) as http,
            _http(system, await _users_key(system, careless.OWNER)) as of_careless,
            _http(system, await _users_key(system, cancelling.OWNER)) as of_cancelling,
        ):
            return await Campaign(
                plan, system, *(Clients(one, plan) for one in (http, of_careless, of_cancelling))
            ).run()


async def _users_key(system: System, owner: str) -> str:
    """The secret of a new user's key."""
    database = Database(system.services.database_url, connections=2)
    try:
        key = NewKey(Role.USER, owner)
        return (await database.run(lambda c: api_keys.create(c, key, Actor(None, "faults", None)))).secret
    finally:
        await database.close()


def _http(system: System, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"{system.url}/api/v2",
        headers={"Authorization": f"Bearer {key}"},
        trust_env=False,
        timeout=PATIENCE,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
    )


class Campaign:
    """One run on a running system."""

    def __init__(self, plan: Plan, system: System, clients: Clients, careless: Clients, cancelling: Clients) -> None:
        self._plan = plan
        self._system = system
        self._clients = clients
        self._nemesis = Nemesis(system.parts)
        self._bad_nodes = all_of_them(clients.http, plan.chance("bad nodes")) if plan.bad_company else []
        self._careless = Careless(careless, plan.tasks // CARELESS if plan.bad_company else 0)
        self._cancelling = Cancelling(cancelling, plan.tasks // CANCELLED)
        self._operator = Operator(clients, NODES, plan.chance("operator"))
        self._joined_at = math.inf

    async def run(self) -> Figures:
        """Everything in order; a run that does not drain is checked all the same."""
        bad_nodes = asyncio.create_task(self._work_badly())
        try:
            return await self._run()
        finally:
            bad_nodes.cancel()
            await asyncio.gather(bad_nodes, return_exceptions=True)

    async def _work_badly(self) -> None:
        """Run the bad nodes until cancelled; first it is measured how long honest tasks take without them."""
        await asyncio.sleep(JOINS * self._plan.seconds)
        self._joined_at = time.time()
        await asyncio.gather(*(node.work() for node in self._bad_nodes))

    async def _run(self) -> Figures:
        self._system.break_network(broken=True)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._clients.work())
            group.create_task(self._careless.work())
            group.create_task(self._cancelling.work())
            group.create_task(self._nemesis.work(faults(self._plan, list(PARTS))))
            group.create_task(self._operator.work(self._plan.seconds))
        self._system.break_network(broken=False)
        await self._nemesis.heal(HEAL_S)
        await self._operator.finish()
        began = time.monotonic()
        stuck = await self._drain()
        drained_s = time.monotonic() - began
        await self._until_workflows_are_closed()
        verified = await self._verify()
        untrue = await self._careless.check() + await self._cancelling.check(self._url, NODES)
        bad = [node.gpu_id for node in self._bad_nodes]
        return Figures.of(
            seed=self._plan.seed,
            accepted=len(self._clients.accepted),
            lost=await self._clients.check(),
            untrue=untrue,
            careless=dict(self._careless.ends),
            cancels=dict(self._cancelling.ends),
            refused_after_stop=dict(self._cancelling.refused),
            verdict=await verdict.read(self._url, NODES, bad, self._joined_at),
            wrong=[
                *self._clients.wrong,
                *self._careless.clients.wrong,
                *self._cancelling.clients.wrong,
                *await self._operator.check(self._url),
            ],
            drains=len(self._operator.drained),
            stuck=stuck,
            verified=verified,
            kills=self._nemesis.kills,
            pauses=self._nemesis.pauses,
            network={f"{name} {kind}": n for name, one in self._system.proxies.items() for kind, n in one.done.items()},
            answers=dict(self._clients.answers),
            longest_recovery_s=longest_gap(self._nemesis.moments, await self._column(ENDS)),
            drained_s=drained_s,
        )

    async def _drain(self) -> int:
        """How many tasks have not ended when the time is up."""
        deadline = time.monotonic() + self._plan.drain_s
        while True:
            left = int((await self._column(UNFINISHED))[0])
            if not left or time.monotonic() >= deadline:
                return left
            await asyncio.sleep(0.25)

    async def _until_workflows_are_closed(self) -> None:
        """A workflow closes a step after its row; the check that follows says which have not."""
        services = self._system.services
        client = await Client.connect(services.temporal_address, namespace=services.temporal_namespace)
        open_ones = "WorkflowType = 'TaskWorkflow' AND ExecutionStatus = 'Running'"
        for _ in range(int(CLOSE_S)):
            if not (await client.count_workflows(open_ones)).count:
                return
            await asyncio.sleep(1)

    async def _verify(self) -> dict[str, Any]:
        """The word of `gpu-orchestrator verify --settled` with the nodes' logs, as an operator would ask for it."""
        services = self._system.services
        settings = {
            "DATABASE_URL": services.database_url,
            "TEMPORAL_ADDRESS": services.temporal_address,
            "TEMPORAL_NAMESPACE": services.temporal_namespace,
            "HEARTBEAT_TIMEOUT": str(self._system.settings.heartbeat_timeout),
            "LEADER_LEASE": str(self._system.settings.leader_lease),
        }
        logs = [word for path in self._system.node_logs for word in ("--node-log", str(path))]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "workers.cli", "verify", "--json", "--settled", *logs),
            env={**os.environ, **{ENV_PREFIX + name: value for name, value in settings.items()}},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        found: dict[str, Any] = json.loads(output)
        return found

    @property
    def _url(self) -> str:
        return self._system.services.database_url.replace("postgresql+psycopg", "postgresql")

    async def _column(self, statement: str) -> list[float]:
        async with (
            await psycopg.AsyncConnection.connect(self._url) as connection,
            await connection.execute(statement) as cursor,
        ):
            return [row[0] for row in await cursor.fetchall()]


def longest_gap(moments: Sequence[float], ends: Sequence[float]) -> float:
    """Seconds from a fault to the next end of a task, the longest of them; `ends` are in order."""
    gaps = [ends[place] - moment for moment in moments if (place := bisect.bisect(ends, moment)) < len(ends)]
    return max(gaps, default=0.0)
