"""Lists: the total, the neighbouring pages, and the whole of those that the specification shows whole."""

from __future__ import annotations

import pytest


async def test_paging_returns_the_total(api):
    for _ in range(3):
        await api.create(202)
    response = await api.http.get("/tasks?taskType=202&size=2")
    assert (len(response.json()["data"]), response.headers["X-Total-Count"]) == (2, "3")
    assert 'rel="next"' in response.headers["Link"]
    assert await api.get("/tasks?taskType=202&size=100&page=2147483647") == []


@pytest.mark.parametrize("path", ["/gpus", "/gpus/by-task-type/208", "/cluster/instances"])
async def test_a_list_is_whole_unless_a_page_is_asked_for(api, make_node, path):
    for gpu_id in ("page_gpu_1", "page_gpu_2"):
        await make_node(gpu_id, [208])
    identity = "instance_id" if "cluster" in path else "gpuId"
    response = await api.http.get(path)
    names = [one[identity] for one in response.json()["data"]]
    assert len(names) == int(response.headers["X-Total-Count"]) >= 2
    assert "Link" not in response.headers
    paged = []
    for page in range(1, len(names) + 1):
        response = await api.http.get(path, params={"page": page, "size": 1})
        assert response.headers["X-Total-Count"] == str(len(names))
        paged += [one[identity] for one in response.json()["data"]]
    assert paged == names
    assert response.links["first"]["url"] == f"/api/v2{path}?page=1&size=1"
    await api.get(f"{path}?page=0", code=400)
    await api.get(f"{path}?size=101", code=400)


async def test_a_page_of_large_tasks_is_at_most_4_mib(api):
    """Quotes are encoded with two bytes, so that a payload of 190,000 of them takes 380,000 in the answer."""
    sizes = [190_000, 10, *[190_000] * 12, 500]
    created = [await api.create(2203, payload='"' * size) for size in sizes]
    response = await api.http.get("/tasks?taskType=2203&size=100")
    assert 3.5 * 2**20 < len(response.content) <= 4 * 2**20
    api.contract.check(response)
    found = {one["taskId"]: one for one in response.json()["data"]}
    assert list(found) == created[::-1]
    shown = [task_id for task_id in created if found[task_id]["payload"] is not None]
    assert len(shown) == 13
    for task_id, size in zip(created, sizes, strict=True):
        whole = await api.get(f"/tasks/{task_id}")
        assert len(whole["payload"]) == size
        assert "omitted" not in whole
        if task_id in shown:
            assert found[task_id] == whole
        else:
            assert size == 190_000
            assert found[task_id] == whole | {"payload": None, "omitted": ["payload"]}


async def test_a_timeline_has_pages(api):
    task_id = await api.create(2204)
    response = await api.http.get(f"/tasks/{task_id}/events")
    api.contract.check(response)
    (event,) = response.json()["data"]
    assert (event["seq"], response.headers["X-Total-Count"]) == (1, "1")
    assert await api.get(f"/tasks/{task_id}/events?page=2&size=1") == []
    await api.get(f"/tasks/{task_id}/events?size=101", code=400)
    await api.get("/tasks/none/events", code=404)


async def test_metadata_are_shown_as_they_were_registered(api, make_node):
    metadata = {"模型": "RTX 4090", "nested": {"a": [1, 2.5, None, True]}, "memory": "24GB"}
    await make_node("page_gpu_3", [208], metadata=metadata)
    for path in ("/gpus", "/gpus/by-task-type/208"):
        (found,) = [one for one in await api.get(path) if one["gpuId"] == "page_gpu_3"]
        assert found["metadata"] == metadata
        assert found | {"lastHeartbeat": 0} == await api.get("/gpus/page_gpu_3") | {"lastHeartbeat": 0}
