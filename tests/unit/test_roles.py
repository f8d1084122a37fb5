"""Roles: every endpoint with every role, through the whole application on a database of nothing."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from api.app import ROUTERS
from api.routes import gpus, tasks
from api.routes.roles import ALLOWED, check_complete
from tests.api.access_table import CASES, MAY, ROLES
from tests.api.specification import SECTIONS
from tests.unit.whole_api import ask
from workflows.domain.role import Role


async def answer(role: str, endpoint: str, **options: Any) -> httpx.Response:
    method, path = endpoint.split(" ")
    path = re.sub(r"\{(\w+)\}", lambda name: "1" if name[1] == "taskType" else "none", path)
    return await ask(role, method, path, **options)


def test_the_table_knows_every_endpoint() -> None:
    assert len(MAY) == len(SECTIONS) + 25
    assert set(ROLES) == set(Role)
    assert set(ALLOWED) == set(MAY)


def test_an_endpoint_without_roles_is_a_mistake_at_the_start() -> None:
    check_complete(ROUTERS)
    with pytest.raises(LookupError, match="GET /audit"):
        check_complete([gpus.router, tasks.router])


@pytest.mark.parametrize(("endpoint", "role"), CASES)
async def test_a_role_may_call_what_the_table_says(endpoint: str, role: str) -> None:
    """Only the key is sent: the answer of a caller that may call is about what is missing, or the absent database."""
    response = await answer(role, endpoint)
    if role in MAY[endpoint]:
        assert response.status_code in (200, 400, 404, 503)
    else:
        assert (response.status_code, response.json()["message"]) == (403, "权限不足")


@pytest.mark.parametrize(
    ("endpoint", "role"), [(e, r) for e, r in CASES if r not in MAY[e] and e.startswith(("POST", "PATCH"))]
)
async def test_a_role_is_checked_before_the_body(endpoint: str, role: str) -> None:
    for body in (b"{", b"\xff", b"x" * (1024 * 1024)):
        assert (await answer(role, endpoint, content=body)).status_code == 403


@pytest.mark.parametrize(("endpoint", "role"), CASES)
async def test_a_declared_size_is_checked_before_the_role(endpoint: str, role: str) -> None:
    """A result that is too large fails its attempt: without the database it has to come again."""
    fails = endpoint == "POST /tasks/{taskId}/result" and role in MAY[endpoint]
    most = (8 if endpoint == "POST /tasks/batch" else 1) * 1024 * 1024
    assert (await answer(role, endpoint, content=b"x" * (most + 1))).status_code == (503 if fails else 400)


async def test_a_declared_size_is_checked_before_the_key() -> None:
    for size, status in ((1024 * 1024, 401), (1024 * 1024 + 1, 400)):
        assert (await ask(None, "POST", "/tasks", content=b"x" * size)).status_code == status


async def test_every_role_finds_nothing_where_nothing_is() -> None:
    for role in ROLES:
        assert (await answer(role, "GET /nothing")).status_code == 404
        assert (await answer(role, "PUT /tasks")).status_code == 404
