"""Calls as a browser or a bare socket makes them, and their answers."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest

from tests.api.specification import SECTIONS
from tests.conftest import eventually


async def test_the_specification_s_third_curl_example(api, make_node):
    """curl sends the reason as it is written there: raw UTF-8 in the request line."""
    await make_node("curl_gpu", [209])
    url = httpx.URL(api.stack.api_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    line = "POST /api/v2/gpus/curl_gpu/fault?reason=手动标记 HTTP/1.1\r\n"
    writer.write(f"{line}Host: x\r\nAuthorization: Bearer {api.key}\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body) == SECTIONS["2.6"].answer

    async def alerted():
        alerts = await api.get("/monitoring/alerts?size=100")
        return "GPU节点 curl_gpu 检测到故障: 手动标记" in [one["message"] for one in alerts]

    assert await eventually(alerted)


@pytest.mark.parametrize("raw", [b"no http\r\n\r\n", b"POST /x HTTP/1.1\r\nContent-Length: x\r\n\r\n"])
async def test_what_is_no_http_gets_the_envelope_too(api, raw):
    url = httpx.URL(api.stack.api_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(raw)
    head, _, body = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head
    assert (json.loads(body)["code"], json.loads(body)["data"]) == (400, None)


async def test_a_query_that_is_not_utf8_is_400(api):
    await api.post("/gpus/none/fault?reason=%CA%D6%B6%AF", code=400)


async def test_the_docs_need_nothing_from_elsewhere(api):
    async with httpx.AsyncClient(base_url=api.stack.api_url, trust_env=False) as http:
        page = (await http.get("/docs")).text
        assert "://" not in page
        for asset in re.findall(r'(?:href|src)="([^"]+)"', page) + re.findall(r"url: '([^']+)'", page):
            answer = await http.get(f"/{asset}")
            assert (answer.status_code, len(answer.content) > 1000) == (200, True), asset
        assert (await http.get("/docs/assets/nothing.js")).status_code == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/docs/assets/swagger-ui.css", "/none"])
async def test_head_says_what_get_would(api, path):
    plain = {"Accept-Encoding": "identity"}
    async with httpx.AsyncClient(base_url=api.stack.api_url, headers=plain, trust_env=False) as http:
        get, head = await http.get(path), await http.head(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert int(head.headers["content-length"]) == len(get.content)


async def test_head_and_options_of_the_api(api, make_caller):
    """The roles are those of GET; the connection goes on after these calls."""
    user = await make_caller("user")
    for caller, path, status in [(api, "/tasks?size=1", 200), (api, "/none", 404), (user, "/gpus", 403)]:
        get, head = await caller.http.get(path), await caller.http.head(path)
        assert (get.status_code, head.status_code, head.content) == (status, status, b"")
        assert head.headers.get("x-total-count") == get.headers.get("x-total-count")
    for path, allow in [
        ("/tasks", "GET, HEAD, POST, OPTIONS"),
        ("/tasks/some", "GET, HEAD, PATCH, OPTIONS"),
        ("/gpus/some", "GET, HEAD, DELETE, OPTIONS"),
        ("/gpus/register", "POST, OPTIONS"),
    ]:
        answer = await user.http.options(path)
        assert (answer.status_code, answer.headers["allow"]) == (200, allow), path
    await user.ask("OPTIONS", "/none/none", code=404)


async def test_a_body_that_waits_is_asked_for(api):
    """`Expect: 100-continue`, as curl sends it with a large body."""
    url = httpx.URL(api.stack.api_url)
    body = json.dumps({"taskType": 2205, "userId": "u", "app": "tests", "payload": "{}"}).encode()
    head = f"POST /api/v2/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\nConnection: close\r\n"
    more = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write((head + more).encode())
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 200 ")
    writer.close()
