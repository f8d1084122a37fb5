"""Keys by the command line, on the real stack: made, listed, expired, revoked, rotated."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import psycopg
import pytest

from infra.db.access import callers
from tests.conftest import eventually, frontend
from tests.e2e.inside import select
from tests.fake_node import FakeNode
from workers.cli import main

FORGOTTEN_S = 2.0 + 1.0  # until a revocation counts everywhere, and a turn of a busy machine


def environment_of(stack, **more):
    """The variables of a caller of the command line that has the embedded Postgres, or another database."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    return env | {"ORCHESTRATOR_DATA_DIR": str(stack.settings.data_dir), **more}


@pytest.fixture
def cli(stack):
    """Runs `gpu-orchestrator keys …` in this process: (exit status, standard output, standard error)."""

    async def run(*words, **environment):
        out, err = io.StringIO(), io.StringIO()
        with (
            patch.dict(os.environ, environment_of(stack, **environment), clear=True),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            status = await asyncio.to_thread(main, ["keys", *words])
        return status, out.getvalue(), err.getvalue()

    return run


@pytest.fixture
def made(cli):
    """`keys create …` or `rotate …` with --json: the object."""

    async def run(*words):
        status, out, err = await cli(*words, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)

    return run


async def status_of(stack, secret, path="/monitoring/health"):
    async with frontend(stack, key=secret) as caller:
        return (await caller.http.get(path)).status_code


async def test_the_secret_is_alone_on_standard_output(stack):
    """This one runs as a program of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers.cli", "keys", "create", "--role", "user", "--owner", "cli user"),
        env=environment_of(stack),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = (text.decode() for text in await process.communicate())
    secret = out.removesuffix("\n")
    assert (process.returncode, secret.split(), len(secret) >= 43) == (0, [secret], True)
    assert secret not in err
    assert "key_" in err
    assert await status_of(stack, secret) == 200
    assert await status_of(stack, secret, "/gpus") == 403
    (row,) = await select(stack, "SELECT * FROM api_keys WHERE owner = 'cli user'")
    assert secret not in map(str, row.values())
    assert row["key_hash"] == callers.hash_key(secret)


async def test_a_list_has_no_secrets(stack, cli, made):
    one = await made(
        "create", "--role", "user", "--owner", "listed", "--acts-for-others", "--note", "网关", "--expires", "30d"
    )
    status, out, _ = await cli("list", "--json")
    (shown,) = [row for row in json.loads(out) if row["keyId"] == one["keyId"]]
    assert status == 0
    expected = {"role": "user", "owner": "listed", "state": "live", "actsForOthers": True, "note": "网关"}
    assert expected.items() <= shown.items()
    left = datetime.fromisoformat(shown["expiresAt"]) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30)
    status, table, _ = await cli("list")
    assert (status, one["keyId"] in table, "网关" in table) == (0, True, True)
    for text in (out, table):
        assert one["secret"] not in text
        assert callers.hash_key(one["secret"]) not in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["create", "--role", "user", "--owner", "x", "--expires", "2020-01-01"], "past"),
        (["revoke", "key_none"], "key_none"),
        (["rotate", "key_none"], "key_none"),
    ],
)
async def test_what_the_database_refuses_is_reported(cli, words, says):
    code, out, err = await cli(*words)
    assert (code, out) == (1, "")
    assert says in err
    assert "Traceback" not in err


async def test_without_its_database(cli, tmp_path):
    for environment in (
        {"ORCHESTRATOR_DATA_DIR": str(tmp_path)},
        {"ORCHESTRATOR_DATABASE_URL": "postgresql://u:hidden@127.0.0.1:9/none"},  # pragma: allowlist secret
    ):
        code, out, err = await cli("list", **environment)
        assert (code, out) == (1, "")
        assert "ORCHESTRATOR_DATABASE_URL" in err
        assert "Traceback" not in err
        assert "hidden" not in err
    assert list(tmp_path.iterdir()) == []


async def test_the_database_may_be_named(cli, stack, tmp_path):
    code, out, _ = await cli(
        "list", "--json", ORCHESTRATOR_DATA_DIR=str(tmp_path), ORCHESTRATOR_DATABASE_URL=stack.services.database_url
    )
    assert code == 0
    assert "bootstrap" in {row["owner"] for row in json.loads(out)}


async def test_a_revoked_key_is_dead_within_two_seconds(stack, cli, made):
    one = await made("create", "--role", "operator", "--owner", "revoked")
    assert await status_of(stack, one["secret"]) == 200
    status, out, err = await cli("revoke", one["keyId"])
    began = time.monotonic()
    assert (status, out, one["keyId"] in err) == (0, "", True)

    async def is_dead():
        return await status_of(stack, one["secret"]) == 401

    await eventually(is_dead)
    assert time.monotonic() - began < FORGOTTEN_S
    assert (await cli("revoke", one["keyId"]))[0] == 0
    assert (await cli("rotate", one["keyId"]))[0] == 1


async def test_an_expired_key_is_dead(stack, made):
    one = await made("create", "--role", "operator", "--owner", "expired", "--expires", "1h")
    assert await status_of(stack, one["secret"]) == 200
    url = stack.services.database_url.replace("+psycopg", "")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        end = "UPDATE api_keys SET expires_at = expires_at - interval '1 h' WHERE key_id = %s"
        await connection.execute(end, (one["keyId"],))

    async def is_dead():
        return await status_of(stack, one["secret"]) == 401

    await eventually(is_dead)


async def test_a_rotated_key_and_its_successor_overlap(stack, cli, made, api):
    """The successor has the role, the owner, the options, the GPU and the Idempotency-Keys of the old one."""
    old = await made("create", "--role", "node", "--owner", "rotated", "--expires", "30d")
    node = FakeNode("rotated_gpu")
    await node.start()
    async with frontend(stack, key=old["secret"]) as caller:
        await caller.register(node, [250])
    new = await made("rotate", old["keyId"], "--overlap", "1h")
    assert new["keyId"] != old["keyId"]
    assert (new["role"], new["owner"], new["replaces"]) == ("node", "rotated", old["keyId"])
    lifetime = datetime.fromisoformat(new["expiresAt"]) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < lifetime <= timedelta(days=30)
    overlap = datetime.fromisoformat(new["oldExpiresAt"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < overlap <= timedelta(hours=1)
    for secret in (old["secret"], new["secret"]):
        async with frontend(stack, key=secret) as caller:
            assert [gpu["gpuId"] for gpu in await caller.get("/gpus")] == ["rotated_gpu"]
            await caller.post("/gpus/rotated_gpu/heartbeat")
    async with frontend(stack, key=new["secret"]) as caller:
        await caller.register(node, [250])
        await caller.ask("DELETE", "/gpus/rotated_gpu")
    await node.stop()
    last = await made("rotate", new["keyId"], "--overlap", "0s")

    async def is_over():
        return await status_of(stack, new["secret"], "/gpus") == 401

    await eventually(is_over)
    assert await status_of(stack, last["secret"], "/gpus") == 200
    rotated = await api.get("/audit?action=key.rotate&size=100")
    assert [one["subject"] for one in rotated if one["subject"] in (old["keyId"], new["keyId"])] == [
        new["keyId"],
        old["keyId"],
    ]
    assert {one["owner"].split(":")[0] for one in rotated} == {"cli"}


async def test_an_idempotency_key_is_its_callers_own_and_survives_rotation(stack, made):
    body = {"taskType": 251, "userId": "idem", "app": "a", "payload": "{}"}
    headers = {"Idempotency-Key": "k"}
    one = await made("create", "--role", "user", "--owner", "idem")
    other = await made("create", "--role", "user", "--owner", "idem")
    two = await made("rotate", one["keyId"])
    ids = []
    for secret in (one["secret"], two["secret"], other["secret"]):
        async with frontend(stack, key=secret) as caller:
            ids.append((await caller.post("/tasks", body, headers=headers))["taskId"])
            await caller.post("/tasks", body | {"app": "b"}, headers=headers, code=400)
    assert ids[0] == ids[1] != ids[2]
    async with frontend(stack, key=one["secret"]) as caller:
        headers = {"Idempotency-Key": "at once"}
        created = await asyncio.gather(*(caller.post("/tasks", body, headers=headers) for _ in range(8)))
    assert len({task["taskId"] for task in created}) == 1


async def test_a_gpu_id_is_free_once_its_key_is_revoked(stack, cli, made, api):
    lost = await made("create", "--role", "node", "--owner", "lost")
    heir = await made("create", "--role", "node", "--owner", "heir")
    node = FakeNode("inherited_gpu")
    await node.start()
    async with frontend(stack, key=lost["secret"]) as caller:
        await caller.register(node, [252])
    async with frontend(stack, key=heir["secret"]) as caller:
        with pytest.raises(AssertionError, match="403"):
            await caller.register(node, [252])
        assert (await cli("revoke", lost["keyId"]))[0] == 0
        await caller.register(node, [252])
        await caller.post("/gpus/inherited_gpu/heartbeat")
        await caller.ask("DELETE", "/gpus/inherited_gpu")
    await node.stop()


async def test_what_a_key_was_granted_is_kept_by_rotation_and_shown(cli, made):
    limits = ("--types", "2,3", "--max-gpus", "8", "--max-slots", "32", "--networks", "10.0.0.0/8,fd00::/8")
    one = await made("create", "--role", "node", "--owner", "granted", *limits)
    grants = {"types": [2, 3], "maxGpus": 8, "maxSlots": 32, "networks": ["10.0.0.0/8", "fd00::/8"]}
    two = await made("rotate", one["keyId"])
    assert one["grants"] == two["grants"] == grants
    listed = {row["keyId"]: row for row in json.loads((await cli("list", "--json"))[1])}
    assert listed[one["keyId"]]["grants"] == listed[two["keyId"]]["grants"] == grants
    assert "types=2,3 maxGpus=8 maxSlots=32 networks=10.0.0.0/8,fd00::/8" in (await cli("list"))[1]


@pytest.mark.parametrize(
    ("role", "limit"), [("node", ("--max-priority", "1")), ("user", ("--types", "2")), ("admin", ("--apps", "a"))]
)
async def test_a_limit_of_another_role_is_refused(cli, role, limit):
    status, out, err = await cli("create", "--role", role, "--owner", "x", *limit)
    assert (status, out) == (1, "")
    assert role in err


async def test_a_users_key_is_limited(stack, made, api):
    one = await made("create", "--role", "user", "--owner", "limited", "--max-priority", "1", "--apps", "照片, video")
    body = {"taskType": 253, "userId": "limited", "app": "照片", "payload": "{}"}
    async with frontend(stack, key=one["secret"]) as caller:
        for priority in (1, 0, -(2**63)):
            await caller.post("/tasks", body | {"priority": priority})
        task_id = (await caller.post("/tasks", body | {"app": "video"}))["taskId"]
        assert (await caller.get(f"/tasks/{task_id}"))["priority"] == 1
        for priority in (2, 9, 2**63 - 1):
            answer = await caller.http.post("/tasks", json=body | {"priority": priority})
            assert answer.json() == {
                "code": 400,
                "message": "请求参数错误: priority 超出密钥允许的最大值",
                "data": None,
            }
        for app in ("Video", "video ", "other"):
            answer = await caller.http.post("/tasks", json=body | {"app": app, "priority": 9})
            assert answer.json() == {"code": 403, "message": "权限不足: app 不在密钥的授权范围内", "data": None}


async def test_a_nodes_key_is_limited(stack, made, api):
    limits = ("--types", "254,255", "--max-gpus", "1", "--max-slots", "2", "--networks", "127.0.0.0/16")
    one = await made("create", "--role", "node", "--owner", "limited node", *limits)
    node, other = FakeNode("limited_gpu"), FakeNode("limited_gpu_2")
    async with frontend(stack, key=one["secret"]) as caller:
        wrongs: tuple[tuple[list[int], dict[str, Any], str], ...] = (
            ([254, 1], {}, "supportedTaskTypes"),
            ([254], {"ip": "127.1.0.1"}, "ip"),
            ([254], {"maxConcurrentTasks": 3}, "maxConcurrentTasks"),
        )
        for types, wrong, word in wrongs:
            with pytest.raises(AssertionError, match=f"403.*{word}"):
                await caller.register(node, types, **{"port": 9000} | wrong)
        await caller.register(node, [255, 254], port=9000, maxConcurrentTasks=2)
        await caller.register(node, [254], port=9000, maxConcurrentTasks=1)
        with pytest.raises(AssertionError, match=r"403.*数量"):
            await caller.register(other, [254], port=9000)
        await caller.ask("DELETE", "/gpus/limited_gpu")
        await caller.register(other, [254], port=9000)
        await caller.ask("DELETE", "/gpus/limited_gpu_2")
