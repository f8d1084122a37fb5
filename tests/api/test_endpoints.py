"""Every endpoint's answer against the specification: fields and types."""

from __future__ import annotations

import pytest

TASK = {
    "taskId": str, "displayId": int, "taskType": int, "status": str, "userId": str, "app": str, "priority": int,
    "gpuId": (str, type(None)), "payload": str, "result": (str, type(None)), "errorMessage": (str, type(None)),
    "retryCount": int, "maxRetries": int, "timeout": int, "estimatedWaitTime": int, "createdAt": int,
    "startedAt": (int, type(None)), "completedAt": (int, type(None)), "updatedAt": int,
}  # fmt: skip
GPU = {
    "gpuId": str, "hostname": str, "vastInsId": (str, type(None)), "ip": str, "port": int,
    "supportedTaskTypes": list, "supportedTaskPriority": str, "status": str, "lastHeartbeat": int,
    "failureCount": int, "taskFailureCount": int, "version": str, "currentTasks": int,
    "maxConcurrentTasks": int, "metadata": dict,
}  # fmt: skip
HEALTH = {
    "overall_health": str, "gpu_health": str, "queue_health": str, "active_gpu_count": int, "total_gpu_count": int,
    "timestamp": int,
}  # fmt: skip


def check_shape(value, shape):
    assert set(value) == set(shape)
    for name, kind in shape.items():
        assert isinstance(value[name], kind), (name, value[name])
        assert not isinstance(value[name], bool)


async def test_tasks(api):
    body = {"taskType": 201, "userId": "user_001", "app": "face_swap_app", "payload": "{}", "env": "prod"}
    created = await api.post("/tasks", body)
    check_shape(created, {"taskId": str, "displayId": int, "status": str, "estimatedWaitTime": int})
    assert created["status"] == "QUEUED"
    task = await api.get(f"/tasks/{created['taskId']}")
    check_shape(task, TASK)
    assert (task["priority"], task["maxRetries"], task["timeout"]) == (1, 3, 300000)
    listed = await api.get("/tasks?taskType=201&status=QUEUED&page=1&size=1")
    check_shape(listed[0], TASK)
    progress = await api.get(f"/tasks/{created['taskId']}/progress")
    assert progress["queuePosition"] == 1
    result = await api.get(f"/tasks/{created['taskId']}/result")
    assert result == {"taskId": created["taskId"], "status": "QUEUED", "result": None, "completedAt": None}


async def test_paging_tells_the_total(api):
    for _ in range(3):
        await api.create(202)
    response = await api.http.get("/tasks?taskType=202&size=2")
    assert (len(response.json()["data"]), response.headers["X-Total-Count"]) == (2, "3")
    assert 'rel="next"' in response.headers["Link"]
    assert await api.get("/tasks?taskType=202&size=100&page=2147483647") == []


async def test_gpus(api, make_node):
    await make_node("shape_gpu", [203], supportedTaskPriority="VIP")
    check_shape(await api.get("/gpus/shape_gpu"), GPU)
    assert [gpu["gpuId"] for gpu in await api.get("/gpus/by-task-type/203?priority=VIP")] == ["shape_gpu"]
    assert await api.get("/gpus/by-task-type/203?priority=NORMAL") == []
    assert "shape_gpu" in [gpu["gpuId"] for gpu in await api.get("/gpus")]
    before = (await api.get("/gpus/shape_gpu"))["lastHeartbeat"]
    assert await api.post("/gpus/shape_gpu/heartbeat") == "心跳更新成功"
    assert (await api.get("/gpus/shape_gpu"))["lastHeartbeat"] >= before
    assert await api.post("/gpus/shape_gpu/fault?reason=手动标记") == "GPU已标记为故障"
    assert await api.post("/gpus/shape_gpu/recover") == "GPU恢复成功"
    assert await api.post("/gpus/shape_gpu/recover") == "GPU恢复成功"


async def test_monitoring(api):
    check_shape(await api.get("/monitoring/health"), HEALTH)
    overview = await api.get("/monitoring/overview")
    assert list(overview) == ["timestamp", "instance_id", "is_leader", "health_status", "metrics"]
    metrics = await api.get("/monitoring/metrics")
    assert set(metrics) == {"gpu_status_counts", "task_status_counts", "queue_lengths", "system_metrics"}
    counts = metrics["task_status_counts"]
    assert counts["QUEUED"] + counts["PROCESSING"] == sum(metrics["queue_lengths"].values())
    for key in metrics:
        value = await api.get(f"/monitoring/metrics/{key}")
        assert (set(value), value["key"]) == ({"key", "value", "timestamp"}, key)
    for component in ("system", "gpu", "task", "queue", "cluster"):
        health = await api.get(f"/monitoring/health/{component}")
        assert (health["component"], health["status"]) == (component, health["status"])
        assert health["status"] in {"HEALTHY", "DEGRADED", "UNHEALTHY"}
    assert await api.post("/monitoring/check") == "监控检查已触发"
    assert await api.post("/monitoring/health/check") == "健康检查已触发"


async def test_alerts(api, make_node):
    await make_node("alert_gpu", [204])
    await api.post("/gpus/alert_gpu/fault?reason=x")
    from tests.conftest import eventually

    async def raised():
        return [one for one in await api.get("/monitoring/alerts?size=100") if "alert_gpu" in one["message"]]

    alert = (await eventually(raised))[0]
    assert (alert["level"], alert["status"], alert["acknowledgedAt"]) == ("CRITICAL", "ACTIVE", None)
    assert await api.post(f"/monitoring/alerts/{alert['id']}/acknowledge") == "告警已确认"
    first = (await raised())[0]
    assert first["status"] == "ACKNOWLEDGED"
    assert first["acknowledgedBy"]
    await api.post(f"/monitoring/alerts/{alert['id']}/acknowledge")
    assert (await raised())[0]["acknowledgedAt"] == first["acknowledgedAt"]
    stats = await api.get("/monitoring/alerts/stats")
    by_level = stats["critical_alerts"] + stats["warning_alerts"] + stats["info_alerts"]
    assert stats["total_alerts"] == by_level == stats["acknowledged_alerts"] + stats["active_alerts"]


async def test_cluster(api):
    status = await api.get("/cluster/status")
    assert status["total_instances"] == status["active_instances"] == 2
    assert [one["instance_id"] for one in status["instances"] if one["role"] == "LEADER"] == [status["leader_instance"]]
    for one in await api.get("/cluster/instances"):
        assert set(one) == {"instance_id", "status", "role", "last_heartbeat", "start_time", "version"}


async def test_idempotency_key(api):
    body = {"taskType": 205, "userId": "u", "app": "a", "payload": "{}"}
    headers = {"Idempotency-Key": "once"}
    first = await api.post("/tasks", body, headers=headers)
    assert (await api.post("/tasks", body, headers=headers))["taskId"] == first["taskId"]
    await api.post("/tasks", body | {"app": "b"}, headers=headers, code=400)


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
    import httpx

    async with httpx.AsyncClient(trust_env=False) as http:
        response = await http.get(f"{api.stack.api_url}/api/v2{path}", headers=headers)
    assert response.status_code == response.json()["code"] == 401


async def test_either_header_but_not_two_different_keys(api):
    import httpx

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
