"""An agent's routes: what it accepts, what it refuses, and what it reports."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.e2e.fake_orchestrator import KEY, fake_orchestrator
from tests.e2e.node.agent import (
    DOUBLE,
    GATED,
    Agent,
    gate,
    until_exists,
)


async def test_an_id_is_never_executed_twice(shared: Agent, tmp_path: Path) -> None:
    log = tmp_path / "runs"
    input = {"log": str(log), "x": 4}
    answers = await asyncio.gather(*(shared.put("once", DOUBLE, input) for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert await shared.result("once") == {"x": 8}
    answer = await shared.put("once", DOUBLE, input)
    assert (answer.status_code, answer.json()["status"], answer.json()["output"]) == (200, "succeeded", {"x": 8})
    assert log.read_text() == "run\n"


async def test_full_node_answers_409(shared: Agent, tmp_path: Path) -> None:
    gates = [gate(tmp_path, f"full{number}") for number in range(2)]
    for number, (input, here, _) in enumerate(gates):
        assert (await shared.put(f"full{number}", GATED, input)).status_code == 202
        await until_exists(here)
    assert await shared.health() == "BUSY"
    answer = await shared.put("full2", GATED, {})
    assert (answer.status_code, "detail" in answer.json()) == (409, True)
    for number, (_, _, go) in enumerate(gates):
        go.touch()
        await shared.result(f"full{number}")
    assert await shared.health() == "READY"
    assert (await shared.http.get("/predictions/full2-1")).status_code == 404


async def test_last_reports_are_repeated(shared: Agent, tmp_path: Path) -> None:
    shared.orchestrator.script("result", 503, 500, headers={"Retry-After": "0"})
    await shared.put("repeat", DOUBLE, {"log": str(tmp_path / "runs"), "x": 1})
    await shared.orchestrator.until(lambda: len(shared.orchestrator.of("result", "repeat")) == 3)
    assert len({call.body["result"] for call in shared.orchestrator.of("result", "repeat")}) == 1
    shared.orchestrator.script("result", 404)
    await shared.put("dropped", DOUBLE, {"log": str(tmp_path / "runs"), "x": 1})
    await shared.result("dropped")
    await shared.put("after", DOUBLE, {"log": str(tmp_path / "runs"), "x": 1})
    await shared.result("after")
    assert len(shared.orchestrator.of("result", "dropped")) == 1


async def test_a_foreign_webhook_never_sees_the_key(shared: Agent, tmp_path: Path) -> None:
    async with fake_orchestrator() as foreign:
        body = {
            "input": {"log": str(tmp_path / "runs"), "x": 1},
            "context": {"taskId": "foreign", "attempt": 1, "taskType": DOUBLE},
            "webhook": f"{foreign.url}/api/v2/tasks/foreign",
        }
        assert (await shared.http.put("/predictions/foreign-1", json=body)).status_code == 202
        assert await shared.result("foreign") == {"x": 2}
        assert foreign.calls == []


async def test_bad_requests(shared: Agent) -> None:
    for content in (b"", b"{", b"[]", b'{"input": 1, "context": {}}', b"[" * 100_000, b" " * (2**20 + 1)):
        answer = await shared.http.put("/predictions/bad-1", content=content)
        assert answer.status_code == 400
        assert set(answer.json()) == {"detail"}
    assert (await shared.http.get("/predictions/bad-1")).status_code == 404
    assert (await shared.http.post("/predictions/bad-1")).status_code == 405
    for secret in ("", "Bearer", f"Bearer {shared.secret}x", KEY, f"Basic {shared.secret}"):
        for method, path in (("PUT", "/predictions/bad-1"), ("GET", "/predictions/once-1"), ("GET", "/nothing")):
            answer = await shared.http.request(method, path, headers={"Authorization": secret})
            assert answer.status_code == 401
    assert (await shared.http.get("/health-check", headers={"Authorization": ""})).status_code == 200


async def test_a_type_that_is_not_served_is_no_fault_of_the_input(shared: Agent) -> None:
    answer = await shared.put("unserved", 99, {})
    assert (answer.status_code, answer.json()["detail"].split(":")[0]) == (503, "taskType")
    assert (await shared.http.get("/predictions/unserved-1")).status_code == 404
