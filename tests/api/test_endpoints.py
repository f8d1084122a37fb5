"""Every endpoint's answer against the specification's own sample: names, types, and no field more or less.

That it also is what the OpenAPI document says, `api.ask` checks of every answer in all tests.
"""

from __future__ import annotations

import json
from typing import Any

from tests.api.specification import SECTIONS, like
from tests.conftest import eventually

HEALTH = {"HEALTHY", "DEGRADED", "UNHEALTHY"}


def request(section: str) -> dict[str, Any]:
    """The sample of an endpoint's body."""
    body = SECTIONS[section].request
    assert body is not None
    return body


async def seen(api, section, path, *, method="GET", **options):
    """The data of an endpoint, which has its sample's shape; a text is the sample's own."""
    sample = SECTIONS[section]
    assert sample.method == method
    data = await api.ask(method, path, **options)
    if isinstance(sample.data, str):
        assert data == sample.data
    like(sample.data, data)
    return data


async def test_1_1_overview(api):
    overview = await seen(api, "1.1", "/monitoring/overview")
    assert list(overview) == list(SECTIONS["1.1"].data)
    assert type(overview["is_leader"]) is bool
    metrics = overview["metrics"]
    assert metrics["queue_length"] == metrics["queued_tasks"] + metrics["processing_tasks"]
    assert metrics["active_gpus"] == overview["health_status"]["active_gpu_count"]


async def test_1_2_health(api):
    health = await seen(api, "1.2", "/monitoring/health")
    assert {health[name] for name in ("overall_health", "gpu_health", "queue_health")} <= HEALTH
    assert health["active_gpu_count"] <= health["total_gpu_count"]


async def test_1_3_health_of_a_component(api):
    gpu = await seen(api, "1.3", "/monitoring/health/gpu")
    details = gpu["details"]
    assert details["total_gpus"] == details["active_gpus"] + details["faulty_gpus"] + details["offline_gpus"]
    for component in ("system", "gpu", "task", "queue", "cluster"):
        health = await api.get(f"/monitoring/health/{component}")
        assert set(health) == {"component", "status", "details", "timestamp"}
        assert health["component"] == component
        assert health["status"] in HEALTH


async def test_1_4_and_1_5_metrics(api):
    metrics = await api.get("/monitoring/metrics")
    sample = SECTIONS["1.4"].data
    assert list(metrics) == list(sample)
    for name in ("gpu_status_counts", "task_status_counts", "system_metrics"):
        like(sample[name], metrics[name], name)
    for task_type, length in metrics["queue_lengths"].items():
        assert (int(task_type), type(length)) == (int(task_type), int)
    counts = metrics["task_status_counts"]
    assert counts["QUEUED"] + counts["PROCESSING"] == sum(metrics["queue_lengths"].values())
    for key in metrics:
        metric = await api.get(f"/monitoring/metrics/{key}")
        assert (list(metric), metric["key"]) == (["key", "value", "timestamp"], key)
        assert set(metric["value"]) >= set(sample[key]) or key == "queue_lengths"
    await seen(api, "1.5", "/monitoring/metrics/gpu_status_counts")


async def test_1_6_and_1_7_checks(api):
    await seen(api, "1.6", "/monitoring/check", method="POST")
    await seen(api, "1.7", "/monitoring/health/check", method="POST")


async def test_2_gpus(api, make_node):
    asked = request("2.4")
    node = await make_node("shape_gpu", [203])
    body = {**asked, "gpuId": node.gpu_id, "ip": "127.0.0.1", "port": node.port, "supportedTaskTypes": [203]}
    await seen(api, "2.4", "/gpus/register", method="POST", json=body)
    gpu = await seen(api, "2.2", "/gpus/shape_gpu")
    assert {name: gpu[name] for name in body} == body
    assert (gpu["status"], gpu["failureCount"], gpu["taskFailureCount"], gpu["currentTasks"]) == ("ACTIVE", 0, 0, 0)
    assert gpu["vastInsId"] is None
    assert gpu in [one | {"lastHeartbeat": gpu["lastHeartbeat"]} for one in await seen(api, "2.1", "/gpus")]
    for path, found in [("203?priority=VIP", ["shape_gpu"]), ("203", ["shape_gpu"]), ("203?priority=NORMAL", [])]:
        of_type = await seen(api, "2.3", f"/gpus/by-task-type/{path}")
        assert [one["gpuId"] for one in of_type] == found
    await seen(api, "2.5", "/gpus/shape_gpu/heartbeat", method="POST")
    assert (await api.get("/gpus/shape_gpu"))["lastHeartbeat"] >= gpu["lastHeartbeat"]
    for _ in range(2):
        await seen(api, "2.6", "/gpus/shape_gpu/fault?reason=手动标记", method="POST")
        assert (await api.get("/gpus/shape_gpu"))["status"] == "FAULTY"
    for _ in range(2):
        await seen(api, "2.7", "/gpus/shape_gpu/recover", method="POST")
        assert (await api.get("/gpus/shape_gpu"))["status"] == "ACTIVE"
    await seen(api, "2.8", "/gpus/shape_gpu", method="DELETE")
    await api.get("/gpus/shape_gpu", code=404)


async def test_2_4_takes_a_vast_id(api, make_node):
    await make_node("vast_gpu", [206], vastInsId="ins-7", dispatchSecret="s3cret")  # pragma: allowlist secret
    gpu = await api.get("/gpus/vast_gpu")
    assert gpu["vastInsId"] == "ins-7"
    assert "s3cret" not in json.dumps(gpu)


async def test_3_a_task_from_its_creation_to_its_result(api, make_node):
    sample = request("3.5")
    created = await seen(api, "3.5", "/tasks", method="POST", json={**sample, "taskType": 201})
    assert created["status"] == "QUEUED"
    task_id = created["taskId"]

    queued = await seen(api, "3.2", f"/tasks/{task_id}")
    assert {name: queued[name] for name in sample if name != "env"} | {"env": "prod"} == {**sample, "taskType": 201}
    assert queued["displayId"] == created["displayId"]
    assert (created["estimatedWaitTime"], queued["estimatedWaitTime"]) == (None, None)  # no node serves the type
    assert (queued["retryCount"], queued["maxRetries"], queued["timeout"]) == (0, 3, 300000)
    for name in ("gpuId", "result", "errorMessage", "startedAt", "completedAt"):
        assert queued[name] is None
    progress = await eventually(lambda: _waiting(api, task_id))
    assert (progress["queuePosition"], progress["progress"], progress["waiting"]["ahead"]) == (1, 0, 0)
    assert (progress["gpuId"], progress["startTime"]) == (None, None)
    assert (progress["estimatedRemainingTime"], progress["waiting"]["estimatedWaitTime"]) == (None, None)
    nothing = {"taskId": task_id, "status": "QUEUED", "result": None, "completedAt": None}
    assert await seen(api, "3.4", f"/tasks/{task_id}/result") == nothing

    node = await make_node("life_gpu", [201])
    put = await node.next_put()
    report = {**request("3.6"), "gpuId": node.gpu_id, "progress": 65}
    answer = await seen(api, "3.6", f"/tasks/{task_id}/status", method="POST", json=report)
    assert answer == await api.say(put, "PROCESSING", progress=65)
    running = await seen(api, "3.2", f"/tasks/{task_id}")
    assert (running["status"], running["gpuId"]) == ("PROCESSING", node.gpu_id)
    assert (running["result"], running["completedAt"]) == (None, None)
    progress = await seen(api, "3.3", f"/tasks/{task_id}/progress")
    assert (progress["progress"], progress["gpuId"], progress["queuePosition"]) == (65, node.gpu_id, 0)
    assert progress["startTime"] == running["startedAt"] <= progress["updateTime"]

    result = request("3.7")
    headers = {"X-Attempt-Token": put.token}
    await seen(api, "3.7", f"/tasks/{task_id}/result", method="POST", json=result, headers=headers)
    done = await api.until(task_id, "COMPLETED")
    like(SECTIONS["3.2"].data, done)
    assert (done["result"], done["errorMessage"]) == (result["result"], None)
    assert done["createdAt"] <= done["startedAt"] <= done["completedAt"] <= done["updatedAt"]
    read = await seen(api, "3.4", f"/tasks/{task_id}/result")
    assert read["result"] == {**json.loads(result["result"]), "gpuId": node.gpu_id}
    assert read["completedAt"] == done["completedAt"]
    assert (await api.get(f"/tasks/{task_id}/progress"))["progress"] == 100
    transitions = [(one["from"], one["to"]) for one in await api.get(f"/tasks/{task_id}/events")]
    assert transitions == [(None, "QUEUED"), ("QUEUED", "PROCESSING"), ("PROCESSING", "COMPLETED")]

    for query in (f"gpuId={node.gpu_id}", "taskType=201&status=COMPLETED", "taskType=201&page=1&size=1"):
        assert await seen(api, "3.1", f"/tasks?{query}") == [done]
    assert await api.get("/tasks?taskType=201&status=FAILED") == []


async def test_3_2_a_waiting_task_says_what_its_progress_says(api, make_node):
    node = await make_node("wait_gpu", [298])
    running = await api.create(298)
    await node.next_put()
    task_id = await api.create(298)
    shown = await eventually(lambda: _wait_s(api, task_id))  # the fleet may be known from before the claim
    progress = await api.get(f"/tasks/{task_id}/progress")
    assert shown - 2 <= progress["waiting"]["estimatedWaitTime"] <= shown
    (listed,) = await api.get("/tasks?taskType=298&status=QUEUED")
    await api.ask("DELETE", f"/gpus/{node.gpu_id}")
    assert await _wait_s(api, task_id) is None
    assert (await api.get(f"/tasks/{task_id}/progress"))["waiting"]["estimatedWaitTime"] is None
    again = await api.get("/tasks?taskType=298")
    assert [one["estimatedWaitTime"] for one in again if one["taskId"] == task_id] == [listed["estimatedWaitTime"]]
    for one in (task_id, running):
        await api.post(f"/tasks/{one}/cancel")


async def _wait_s(api, task_id):
    return (await api.get(f"/tasks/{task_id}"))["estimatedWaitTime"]


async def _waiting(api, task_id):
    progress = await api.get(f"/tasks/{task_id}/progress")
    return progress if "waiting" in progress else None


async def test_3_6_a_long_message_is_cut_and_the_failure_counts(api, make_node):
    node = await make_node("talking_gpu", [207])
    task_id = await api.create(207, maxRetries=0)
    await api.say(await node.next_put(), "FAILED", "Traceback" + "x" * 9999 + "MemoryError")
    message = (await api.until(task_id, "FAILED"))["errorMessage"]
    assert (len(message), message[:9], message[-11:]) == (4096, "Traceback", "MemoryError")


async def test_4_alerts(api, make_node):
    await make_node("alert_gpu", [204])
    await api.post("/gpus/alert_gpu/fault?reason=x")

    async def raised(query=""):
        alerts = await seen(api, "4.1", f"/monitoring/alerts?size=100{query}")
        return [one for one in alerts if "alert_gpu" in one["message"]]

    (alert,) = await eventually(raised)
    assert (alert["level"], alert["status"], alert["source"]) == ("CRITICAL", "ACTIVE", "gpu_monitor")
    assert (alert["title"], alert["message"]) == ("GPU故障告警", "GPU节点 alert_gpu 检测到故障: x")
    assert (alert["acknowledgedAt"], alert["acknowledgedBy"]) == (None, None)
    await api.post(f"/monitoring/alerts/{alert['id'].replace('_', '_0')}/acknowledge", code=404)
    await seen(api, "4.2", f"/monitoring/alerts/{alert['id']}/acknowledge", method="POST")
    (first,) = await raised("&status=ACKNOWLEDGED&level=CRITICAL")
    assert first["acknowledgedBy"]
    assert alert["timestamp"] <= first["acknowledgedAt"]
    await api.post(f"/monitoring/alerts/{alert['id']}/acknowledge")
    assert await raised() == [first]
    assert await raised("&status=ACTIVE") == await raised("&level=INFO") == []
    stats = await seen(api, "4.3", "/monitoring/alerts/stats")
    by_level = stats["critical_alerts"] + stats["warning_alerts"] + stats["info_alerts"]
    assert stats["total_alerts"] == by_level == stats["acknowledged_alerts"] + stats["active_alerts"]


async def test_5_cluster(api):
    async def two_are_active() -> bool:
        return (await api.get("/cluster/status"))["active_instances"] == 2

    await eventually(two_are_active, within=60)  # a test may have killed one a moment ago
    status = await seen(api, "5.1", "/cluster/status")
    assert status["total_instances"] == len(status["instances"])  # those that a test has killed are listed for a while
    assert status["active_instances"] == [one["status"] for one in status["instances"]].count("ACTIVE") == 2
    assert [one["instance_id"] for one in status["instances"] if one["role"] == "LEADER"] == [status["leader_instance"]]
    instances = await seen(api, "5.2", "/cluster/instances")
    assert [one["status"] for one in instances] == [one["status"] for one in status["instances"]]
    assert [one["instance_id"] for one in instances] == [one["instance_id"] for one in status["instances"]]
