"""The audit log (extension `GET /audit`)."""

from __future__ import annotations

import json
import time

from tests.conftest import eventually
from workflows.domain.key_limits import KeyLimits


async def entries(api, **filters):
    return await api.get("/audit", params={"size": 100, **filters})


async def test_every_write_leaves_an_entry_and_says_who(api, make_caller, make_node):
    user, node = await make_caller("user", "audit user"), await make_caller("node", "audit node")
    operator = await make_caller("operator", "audit ops")
    task_id = await user.create(240, '{"secret": "p4yload"}', userId="audit user")
    fake = await make_node("audited_gpu", [241], dispatchSecret="s3cret-of-the-node")  # pragma: allowlist secret
    await api.ask("DELETE", "/gpus/audited_gpu")
    await node.register(fake, [241])
    for _ in range(2):
        await operator.post("/gpus/audited_gpu/fault?reason=风扇")
    await operator.post("/gpus/audited_gpu/recover")
    (alert,) = await eventually(lambda: operator.alerts("audited_gpu"))
    for _ in range(2):
        await operator.post(f"/monitoring/alerts/{alert['id']}/acknowledge")
    await operator.post("/monitoring/check")
    await node.ask("DELETE", "/gpus/audited_gpu")

    def seen(found):
        return [(one["action"], one["subject"], one["outcome"]) for one in found]

    assert seen(await entries(api, owner="audit user")) == [("task.create", task_id, "DONE")]
    assert seen(await entries(api, keyId=node.made.key_id)) == [
        ("gpu.deregister", "audited_gpu", "DONE"),
        ("gpu.register", "audited_gpu", "DONE"),
    ]
    by_operator = await entries(api, owner="audit ops")
    assert seen(by_operator) == [
        ("monitor.check", "monitoring", "DONE"),
        ("alert.acknowledge", alert["id"], "UNCHANGED"),
        ("alert.acknowledge", alert["id"], "DONE"),
        ("gpu.recover", "audited_gpu", "DONE"),
        ("gpu.fault", "audited_gpu", "UNCHANGED"),
        ("gpu.fault", "audited_gpu", "DONE"),
    ]
    assert {(one["keyId"], one["role"]) for one in by_operator} == {(operator.made.key_id, "operator")}
    assert by_operator[-1]["detail"] == "风扇"
    assert abs(by_operator[0]["at"] / 1000 - time.time()) < 60
    whole = json.dumps(await entries(api))
    for secret in ("p4yload", "s3cret-of-the-node", user.key, node.key):
        assert secret not in whole


async def test_keys_and_refusals(api, make_caller):
    user = await make_caller("user", "audit nobody")
    await user.post("/gpus/none/recover", code=403)
    await user.create(242, userId="audit nobody")
    created = await entries(api, action="key.create")
    (entry,) = [one for one in created if one["subject"] == user.made.key_id]
    assert (entry["keyId"], entry["owner"], entry["role"]) == (None, "tests", None)
    assert entry["detail"] == "user audit nobody"
    assert {one["action"] for one in created} == {"key.create"}
    assert [one["action"] for one in await entries(api, owner="audit nobody")] == ["task.create"]


async def test_keys_are_listed_without_their_secrets(api, make_caller):
    node = await make_caller("node", "listed", limits=KeyLimits(types=(2, 3), max_gpus=8))
    answer = await api.http.get("/keys?size=100")
    assert int(answer.headers["X-Total-Count"]) >= 2
    (found,) = [one for one in answer.json()["data"] if one["keyId"] == node.made.key_id]
    assert (found["role"], found["owner"], found["state"]) == ("node", "listed", "live")
    assert found["grants"] == {"types": [2, 3], "maxGpus": 8}
    assert node.key not in answer.text


async def test_a_repeated_create_is_one_entry(api, make_caller):
    user = await make_caller("user", "audit twice")
    for _ in range(2):
        await user.post(
            "/tasks",
            {"taskType": 243, "userId": "audit twice", "app": "a", "payload": "{}"},
            headers={"Idempotency-Key": "audited"},
        )
    assert len(await entries(api, owner="audit twice")) == 1


async def test_a_repeated_cancel_has_changed_nothing(api, make_caller):
    user = await make_caller("user", "audit cancels")
    task_id = await user.create(747, userId="audit cancels")
    for _ in range(2):
        await user.post(f"/tasks/{task_id}/cancel")
    found = await entries(api, owner="audit cancels", action="task.cancel")
    assert [(one["subject"], one["outcome"]) for one in found] == [(task_id, "UNCHANGED"), (task_id, "DONE")]


async def test_pages(api, make_caller):
    user = await make_caller("user", "audit pages")
    ids = [await user.create(244, userId="audit pages") for _ in range(3)][::-1]
    found = []
    for page in (1, 2):
        response = await api.http.get("/audit", params={"owner": "audit pages", "page": page, "size": 2})
        found += [one["subject"] for one in response.json()["data"]]
        assert response.headers["X-Total-Count"] == "3"
    assert found == ids
    assert 'rel="prev"' in response.headers["Link"]
    assert await entries(api, owner="audit pages", action="gpu.fault") == []
    await api.get("/audit?action=nothing", code=400)
    await api.get("/audit?page=0", code=400)
