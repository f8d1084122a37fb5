"""Lists: the total, the neighbouring pages, and the whole of those that the specification shows whole."""

from __future__ import annotations

import pytest


async def test_paging_tells_the_total(api):
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
