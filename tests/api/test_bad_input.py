"""Refusals and their codes (INVARIANTS, Answers to bad input)."""

from __future__ import annotations

import httpx
import pytest


async def test_idempotency_key(api):
    body = {"taskType": 205, "userId": "u", "app": "a", "payload": "{}"}
    headers = {"Idempotency-Key": "once"}
    first = await api.post("/tasks", body, headers=headers)
    assert (await api.post("/tasks", body, headers=headers))["taskId"] == first["taskId"]
    await api.post("/tasks", body | {"app": "b"}, headers=headers, code=400)
    await api.post("/tasks", body, headers={"Idempotency-Key": b"\xff"})  # a byte that HTTP lets through is a letter


GOOD = {"taskType": 2, "userId": "u", "app": "a", "payload": "{}"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"taskType": True}, "taskType"),
        ({"taskType": 2**63}, "taskType"),
        ({"taskType": "2"}, "taskType"),
        ({"userId": "a\x00b"}, "userId"),
        ({"payload": "x" * (256 * 1024 + 1)}, "payload"),
        ({"app": None}, "app"),
    ],
)
async def test_a_bad_task_names_the_field(api, change, field):
    response = await api.http.post("/tasks", json=GOOD | change)
    assert (response.status_code, response.json()["code"]) == (400, 400)
    assert field in response.json()["message"]


@pytest.mark.parametrize("content", [b"{", b'{"taskType": NaN}', b'{"taskType": 1e999}', b"[]", b'{"app": "\\ud800"}'])
async def test_malformed_json_is_400(api, content):
    response = await api.http.post("/tasks", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == response.json()["code"] == 400


async def test_more_than_a_mebibyte_is_400_though_its_length_was_not_declared(api):
    async def chunks():
        for _ in range(17):
            yield b"x" * 65536

    response = await api.http.post("/tasks", content=chunks(), headers={"Content-Type": "application/json"})
    assert response.status_code == response.json()["code"] == 400
    assert "body" in response.json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/nothing", 404),
        ("PUT", "/tasks", 404),
        ("GET", "/tasks/none", 404),
        ("GET", "/tasks/none/progress", 404),
        ("GET", "/tasks/none/result", 404),
        ("GET", "/gpus/none", 404),
        ("POST", "/gpus/none/heartbeat", 404),
        ("POST", "/gpus/none/recover", 404),
        ("POST", "/gpus/none/fault?reason=x", 404),
        ("POST", "/gpus/none/fault", 400),
        ("DELETE", "/gpus/none", 404),
        ("GET", "/monitoring/health/nothing", 404),
        ("GET", "/monitoring/metrics/nothing", 404),
        ("POST", "/monitoring/alerts/none/acknowledge", 404),
        ("POST", "/monitoring/alerts/alert_999999/acknowledge", 404),
        ("GET", "/tasks?page=0", 400),
        ("GET", "/tasks?size=101", 400),
        ("GET", "/tasks?status=NOPE", 400),
        ("GET", "/tasks?taskType=x", 400),
        ("GET", "/gpus/by-task-type/x", 400),
        ("GET", "/monitoring/alerts?level=NOPE", 400),
    ],
)
async def test_errors_wear_the_envelope(api, method, path, code):
    assert await api.ask(method, path, code=code) is None


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"X-API-Key": "wrong"}, {"Authorization": "Basic x"}],
)
@pytest.mark.parametrize("path", ["/tasks", "/nothing"])
async def test_without_a_valid_key(api, headers, path):
    async with httpx.AsyncClient(trust_env=False) as http:
        response = await http.get(f"{api.stack.api_url}/api/v2{path}", headers=headers)
    assert response.status_code == response.json()["code"] == 401


async def test_only_what_lies_below_the_prefix_asks_for_a_key(api):
    async with httpx.AsyncClient(base_url=api.stack.api_url, trust_env=False) as http:
        for path, code in [("/api/v2", 401), ("/api/v2/", 401), ("/api/v2beta", 404), ("/api/v2beta/tasks", 404)]:
            response = await http.get(path)
            assert response.status_code == response.json()["code"] == code


async def test_either_header_but_not_two_different_keys(api):
    async with httpx.AsyncClient(trust_env=False) as http:
        url = f"{api.stack.api_url}/api/v2/tasks"
        assert (await http.get(url, headers={"X-API-Key": api.key})).status_code == 200
        both = {"X-API-Key": api.key, "Authorization": "Bearer other"}
        assert (await http.get(url, headers=both)).status_code == 401


@pytest.mark.parametrize("ip", ["10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "0.0.0.0", "localhost", "224.0.0.1"])
async def test_a_node_lives_in_the_allowed_networks(api, ip):
    body = {"gpuId": "bad_ip", "hostname": "h", "ip": ip, "port": 9, "supportedTaskTypes": [1],
            "supportedTaskPriority": "NORMAL", "version": "1", "maxConcurrentTasks": 1}  # fmt: skip
    await api.post("/gpus/register", body, code=400)
