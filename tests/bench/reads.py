"""Reads with ten thousand tasks in Postgres and with a million, in turn, each from an API process of its own."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from api.middleware.authentication import METRICS
from infra.data_dir.embedded import DATABASE
from infra.db.access import api_keys, bootstrap_key
from infra.db.access.api_keys import NewKey
from infra.db.access.audit import Actor
from infra.db.ops import counters
from infra.db.schema.migrate import migrate
from infra.db.session import Database
from tests.bench import fill
from tests.bench.figures import Figure, at_most
from tests.bench.node import Put, report
from tests.bench.plan import Plan
from tests.bench.rig import Connection, Rig, connect, eventually, quiet, say
from tests.bench.stats import Samples
from tests.bench.wire import Api, WireError
from workers.stack.ports import free_port
from workers.stack.process import child_argv, spawn
from workflows.domain.role import Role

TYPE = 16
COMMON_TYPE, COMMON_GPU, COMMON_STATUS = 2, "gpu_common", "COMPLETED"
QUEUED = 100  # rows that wait, whatever the history
SIZE, FAR = 10, 990  # of 10,000 rows this is nearly the last page
COMMON_USER = "bench_common"
DEEP_MS = 1000.0  # behind 100,000 rows
READY_S = 30.0
TABLES = ("tasks", "attempts", "task_results")

COMMON = {"status": COMMON_STATUS, "taskType": str(COMMON_TYPE), "gpuId": COMMON_GPU}
FILTERS = ({}, *({name: value} for name, value in COMMON.items()), COMMON)
PAIRS = [dict(pair) for pair in itertools.combinations(COMMON.items(), 2)]
RARE = {"status": "FAILED"}  # of the common user, one in a thousand

# Half of a long history looks like all of a short one; the other half is other types, nodes, users and outcomes.
VARIED = {
    "status": f"CASE WHEN mod(i, 40) = 0 OR mod(i, 1000) = 501 THEN 'FAILED' ELSE '{COMMON_STATUS}' END",
    "task_type": f"CASE WHEN mod(i, 2) = 0 THEN {COMMON_TYPE + 1} + mod(i / 2, 5) ELSE {COMMON_TYPE} END",
    "gpu_id": f"CASE WHEN mod(i, 2) = 0 THEN 'gpu_' || mod(i / 2, 50) ELSE '{COMMON_GPU}' END",
    "user_id": f"CASE WHEN mod(i, 2) = 0 THEN 'user_' || mod(i / 2, 50) ELSE '{COMMON_USER}' END",
}
UNIFORM = {
    "status": f"CASE WHEN mod(i, 1000) = 501 THEN 'FAILED' ELSE '{COMMON_STATUS}' END",
    "task_type": str(COMMON_TYPE),
    "gpu_id": f"'{COMMON_GPU}'",
    "user_id": f"'{COMMON_USER}'",
}
WAITING = {
    "status": "'QUEUED'",
    "task_type": str(COMMON_TYPE),
    "user_id": f"'{COMMON_USER}'",
    "gpu_id": "NULL",
    "started_at": "NULL",
    "completed_at": "NULL",
    "waiting_since": "clock_timestamp()",
}
COUNT = f"INSERT INTO counters {counters.COUNTED}"


@dataclass(frozen=True)
class Readers:
    """Callers of one API process."""

    admin: Api
    user: Api

    def close(self) -> None:
        self.admin.close()
        self.user.close()


@dataclass(frozen=True)
class Template:
    """A finished task as the system left it, as JSON by table."""

    rows: dict[str, str]


async def measure(rig: Rig, plan: Plan) -> list[Figure]:
    """Two databases of the same server, filled by clones of a task that has run."""
    template = await finished_task(rig)
    async with serving(rig, "bench_few") as few, serving(rig, "bench_many") as many:
        await fill_database(rig, "bench_few", template, plan.few_rows, UNIFORM)
        say(f"  filling {plan.many_rows:,} rows")
        await fill_database(rig, "bench_many", template, plan.many_rows, VARIED)
        await rig.statistics.execute("CHECKPOINT")
        await _check(few.admin, plan.few_rows + QUEUED, plan.few_rows - plan.few_rows // 1000)
        await _check(many.admin, plan.many_rows + QUEUED, plan.many_rows // 2 - plan.many_rows // 1000)
        taken = await _read_all(few, many, plan.read_repeats)
        deep = await _read_deep(many, plan.many_rows, plan.read_repeats)
    for database in ("bench_few", "bench_many"):
        await rig.statistics.execute(f'DROP DATABASE "{database}" WITH (FORCE)')
    return [
        *(_figure(name, *samples, plan) for name, samples in taken.items()),
        *(Figure(name, one.p50, "ms", DEEP_MS, "a second", at_most(1), one.n) for name, one in deep.items()),
    ]


async def finished_task(rig: Rig) -> Template:
    puts: asyncio.Queue[Put] = asyncio.Queue()
    await rig.node("reads", TYPE, 1, puts.put_nowait)
    task_id = (await rig.create(TYPE)).data["taskId"]
    await report(rig.api, await puts.get())
    await rig.completed(task_id)
    rows = {table: await fill.one_row(rig.database, table, "task_id = %s", task_id) for table in TABLES}
    return Template(rows)


@asynccontextmanager
async def serving(rig: Rig, database: str) -> AsyncIterator[Readers]:
    """An API process on a database of its own. Nothing dispatches its tasks."""
    await rig.statistics.execute(f'CREATE DATABASE "{database}"')
    services, port = rig.stack.services, free_port()
    key = rig.stack.api_key.secret.get_secret_value()
    url = services.database_url.replace(f"/{DATABASE}?", f"/{database}?")
    users_key = await _prepare(url, key)
    chosen = {
        "DATABASE_URL": url,
        "REDIS_URL": services.redis_url,
        "TEMPORAL_ADDRESS": services.temporal_address,
        "TASK_QUEUE": "bench-nobody",
        "API_KEY": key,
        "PORT": str(port),
        "RATE_LIMITS": '{"user": {"rate": 0, "burst": 1}}',  # none
    }
    env = {**os.environ, **{f"ORCHESTRATOR_{name}": value for name, value in chosen.items()}}
    argv = child_argv((sys.executable, "-m", "workers.cli", "api"))
    process, drain = await spawn(argv, partial(quiet(), "api"), env)
    readers = Readers(Api("127.0.0.1", port, key), Api("127.0.0.1", port, users_key))

    async def answers() -> bool:
        try:
            await readers.admin.call("GET", "/monitoring/overview")
        except (OSError, WireError):
            return False
        return True

    try:
        await eventually(answers, within=READY_S)
        yield readers
    finally:
        readers.close()
        process.terminate()
        await process.wait()
        await drain()


async def _prepare(url: str, secret: str) -> str:
    """Make the tables, an administrator's key, and a user's key, whose secret is returned."""
    database = Database(url)
    try:
        await migrate(database)
        await database.run(lambda c: bootstrap_key.ensure(c, secret))
        key = NewKey(Role.USER, COMMON_USER)
        return (await database.run(lambda c: api_keys.create(c, key, Actor(None, "bench", None)))).secret
    finally:
        await database.close()


async def fill_database(rig: Rig, database: str, template: Template, count: int, look: dict[str, str]) -> None:
    """Insert the rows without their triggers, which would count one by one; then the counts, as the triggers keep
    them."""
    url = rig.stack.services.database_url.replace(f"/{DATABASE}?", f"/{database}?")
    async with await connect(url) as connection:
        await connection.execute("SET session_replication_role = replica")
        await _history(connection, template, count, look)
        queued = {"task_id": "'bench_queued_' || i", **WAITING}
        await fill.clone(connection, "tasks", template.rows["tasks"], QUEUED, differ=queued)
        await connection.execute(COUNT)
        await fill.vacuum(connection, *TABLES, "counters")


async def _history(connection: Connection, template: Template, count: int, look: dict[str, str]) -> None:
    named = {"task_id": "'bench_' || i"}
    node = {"gpu_id": look["gpu_id"]}
    await fill.clone(connection, "tasks", template.rows["tasks"], count, differ=named | look)
    await fill.clone(
        connection, "attempts", template.rows["attempts"], count, differ=named | node | {"token": "'t_' || i"}
    )
    await fill.clone(connection, "task_results", template.rows["task_results"], count, differ=named | node)


async def _check(api: Api, rows: int, common: int) -> None:
    """Raise AssertionError unless the system's own counts match what was filled in."""
    counts = (await api.call("GET", "/monitoring/metrics")).data["task_status_counts"]
    if sum(counts.values()) != rows:
        raise AssertionError(f"the counts say {counts}, there are {rows} rows")
    found = (await api.call("GET", "/tasks?" + _query(COMMON))).message.header("X-Total-Count")
    if found != str(common):
        raise AssertionError(f"X-Total-Count says {found}, there are {common} rows")


def paths() -> dict[str, tuple[str, bool]]:
    """Every read by its name: its path, and whether a user asks."""
    pages = {
        f"GET /tasks{_shown(one)}, page {page}": (_list(one, page), False)
        for one, page in itertools.product(FILTERS, (1, FAR))
    }
    of_a_user = {
        f"GET /tasks of a user{_shown(one)}, page {page}": (_list(one, page), True)
        for one, page in [*itertools.product((*FILTERS, *PAIRS), (1,)), ({}, FAR), (COMMON, FAR)]
    }
    return {
        "GET /monitoring/overview": ("/monitoring/overview", False),
        "GET /monitoring/metrics": ("/monitoring/metrics", False),
        "GET /metrics": (METRICS, False),
        "GET /tasks/{id}": ("/tasks/bench_{}", False),
        **pages,
        **{f"GET /tasks{_shown(pair)}, page 1": (_list(pair, 1), False) for pair in PAIRS},
        "GET /tasks by status QUEUED, page 1": (_list({"status": "QUEUED"}, 1), False),
        **of_a_user,
        "GET /tasks of a user by a rare status, page 1": (_list(RARE, 1), True),
    }


async def _read_all(few: Readers, many: Readers, repeats: int) -> dict[str, tuple[Samples, Samples]]:
    """Measure each read of both databases in turn; the first round warms up."""
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in paths()}
    for number in range(repeats + 1):
        for name, (path, as_user) in paths().items():
            for readers, samples in zip((many, few), reversed(taken[name]), strict=True):
                api = readers.user if as_user else readers.admin
                below = "" if path == METRICS else "/api/v2"
                took = (await api.call("GET", path.format(1 + number * 97), below=below)).took
                if number:
                    samples.append(1000 * took)
    return {name: (Samples.of(small), Samples.of(large)) for name, (small, large) in taken.items()}


async def _read_deep(many: Readers, rows: int, repeats: int) -> dict[str, Samples]:
    """Pages from the middle of a long list, where both ends are far."""
    reads: dict[str, tuple[Api, dict[str, str], int]] = {
        "GET /tasks": (many.admin, {}, rows),
        "GET /tasks by status": (many.admin, {"status": COMMON_STATUS}, rows),
        "GET /tasks of a user": (many.user, {}, rows // 2),
    }
    taken = {}
    for name, (api, one, length) in reads.items():
        page = length // 2 // SIZE
        took = [1000 * (await api.call("GET", _list(one, page))).took for _ in range(repeats)]
        taken[f"{name}, page {page:,}, {rows:,} rows"] = Samples.of(took)
    return taken


def _list(one: dict[str, str], page: int) -> str:
    return "/tasks?" + _query({**one, "page": str(page), "size": str(SIZE)})


def _figure(name: str, few: Samples, many: Samples, plan: Plan) -> Figure:
    full_name = f"{name}, {plan.many_rows:,} rows"
    return Figure(full_name, many.p50, "ms", few.p50, f"with {plan.few_rows:,} rows", at_most(1.3), many.n)


def _shown(one: dict[str, str]) -> str:
    return f" by {' and '.join(one)}" if one else ""


def _query(parameters: dict[str, str]) -> str:
    return "&".join(f"{name}={value}" for name, value in parameters.items())
