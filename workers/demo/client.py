"""The few calls of the REST interface that the demo makes, as any frontend would."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Self

import httpx

from workers.demo.batch import Job
from workers.demo.errors import DemoFailed

TIMEOUT = 10.0  # s for one request
PAGE = 100
Record = dict[str, Any]


class Orchestrator:
    """A client of `/api/v2`; an async context manager. Every call raises DemoFailed unless the answer is 200."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=f"{url}/api/v2",
            headers={"Authorization": f"Bearer {key}"},
            timeout=TIMEOUT,
            trust_env=False,  # a proxy has no part in this
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def create(self, job: Job) -> Record:
        """POST /tasks. The answer has taskId and displayId."""
        task = {
            "taskType": job.task_type,
            "userId": "demo_user",
            "app": "demo",
            "priority": 1,
            "payload": json.dumps(job.payload),
            "env": "demo",
        }
        return dict(await self._data("POST", "/tasks", json=task))

    async def tasks(self) -> dict[str, Record]:
        """GET /tasks, all pages, by taskId."""
        found: dict[str, Record] = {}
        page: list[Record] = []
        number = 1
        while number == 1 or len(page) == PAGE:
            page = list(await self._data("GET", "/tasks", params={"page": number, "size": PAGE}))
            found |= {task["taskId"]: task for task in page}
            number += 1
        return found

    async def active_nodes(self) -> set[str]:
        """GET /gpus, the ids of the ACTIVE ones."""
        return {node["gpuId"] for node in await self._data("GET", "/gpus") if node["status"] == "ACTIVE"}

    async def progress(self, task_id: str) -> int:
        """GET /tasks/{taskId}/progress, in percent."""
        return int((await self._data("GET", f"/tasks/{task_id}/progress"))["progress"] or 0)

    async def result(self, task_id: str) -> Record:
        """GET /tasks/{taskId}/result, its `result`."""
        result = (await self._data("GET", f"/tasks/{task_id}/result"))["result"]
        return dict(json.loads(result) if isinstance(result, str) else result or {})

    async def events(self, task_id: str) -> list[Record]:
        """GET /tasks/{taskId}/events, in their order."""
        return list(await self._data("GET", f"/tasks/{task_id}/events"))

    async def _data(self, method: str, path: str, **request: Any) -> Any:
        try:
            return _data(await self._http.request(method, path, **request))
        except httpx.HTTPError as error:
            raise DemoFailed(f"{method} {path}: {error!r}") from error


def _data(response: httpx.Response) -> Any:
    if response.status_code != httpx.codes.OK:
        request = response.request
        raise DemoFailed(f"{request.method} {request.url.path}: {response.status_code} {response.text[:300]}")
    return response.json()["data"]
