"""Bodies are read strictly, and every refusal has the envelope's shape (INVARIANTS, Answers to bad input)."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Query, Request, Response

from api.http.body import MAX_CONTENT_TYPE, JsonBody
from api.http.envelope import Envelope, ok
from api.http.errors import CODES, install
from api.http.paging import PageOf, WholeOrPageOf
from api.middleware.error_shield import ErrorShield
from api.schemas.create_task import CreateTask
from api.schemas.params import IdempotencyKey, Integer, Reason
from workflows.domain import errors as domain
from workflows.domain.task import TaskStatus

TASK: dict[str, Any] = {"taskType": 2, "userId": "user_001", "app": "a", "payload": "{}"}


def build() -> FastAPI:
    app = FastAPI()
    install(app)
    app.add_middleware(ErrorShield)

    @app.post("/tasks")
    async def create(
        body: Annotated[CreateTask, Depends(JsonBody(CreateTask))], idempotency_key: IdempotencyKey = None
    ) -> Envelope[str]:
        return Envelope(data=body.payload)

    @app.get("/list")
    async def listed(request: Request, response: Response, page: PageOf) -> Envelope[list[int]]:
        response.headers.update(page.headers(request, 45))
        return Envelope(data=[page.limit, page.offset])

    @app.get("/whole")
    async def whole(request: Request, response: Response, page: WholeOrPageOf) -> Envelope[list[int]]:
        response.headers.update(page.headers(request, 45))
        return Envelope(data=list(page.of(range(45))))

    @app.get("/number/{number}")
    async def number(number: Integer, status: TaskStatus | None = None) -> Envelope[int]:
        return Envelope(data=number)

    @app.get("/reason")
    async def why(reason: Annotated[Reason, Query()]) -> Envelope[str]:
        return Envelope(data=reason)

    @app.get("/raise/{name}")
    async def fail(name: str) -> None:
        raise {"bug": ValueError("secret"), "down": ConnectionError("db"), "task": domain.TaskNotFound()}[name]

    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=build())
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def refused(answer: httpx.Response, code: int, word: str) -> None:
    body = answer.json()
    assert (answer.status_code, body["code"], body["data"]) == (code, code, None)
    assert word in body["message"]
    assert list(body) == ["code", "message", "data"]


async def post(client: httpx.AsyncClient, raw: str | bytes, **headers: str) -> httpx.Response:
    return await client.post("/tasks", content=raw, headers={"content-type": "application/json", **headers})


def with_field(name: str, text: str) -> str:
    rest = {key: value for key, value in TASK.items() if key != name}
    return json.dumps(rest)[:-1] + f', "{name}": {text}}}'


BAD_FIELDS = [
    ("taskType", "NaN"),
    ("taskType", "-Infinity"),
    ("taskType", "1e999"),
    ("taskType", str(2**63)),
    ("taskType", "9" * 4301),
    ("unknown", "[" + "9" * 20 + "]"),
    ("taskType", "true"),
    ("taskType", '"2"'),
    ("taskType", "2.0"),
    ("taskType", "null"),
    ("userId", '""'),
    ("userId", '"' + "x" * 129 + '"'),
    ("app", r'"\u0000"'),
    ("app", r'"\ud800"'),
    ("env", "7"),
    ("payload", '{"a": 1}'),
    ("payload", '"' + "图" * 87382 + '"'),
    ("timeout", "0"),
    ("maxRetries", "101"),
    ("priority", "false"),
    ("unknown", "NaN"),
    ("unknown", r'{"a": [{"\u0000": 1}]}'),
]


@pytest.mark.parametrize(("name", "text"), BAD_FIELDS, ids=[f"{n}-{t[:12]}" for n, t in BAD_FIELDS])
async def test_a_bad_field_is_named(client: httpx.AsyncClient, name: str, text: str) -> None:
    refused(await post(client, with_field(name, text)), 400, name)


@pytest.mark.parametrize("name", ["taskType", "userId", "app", "payload"])
async def test_a_missing_field_is_named(client: httpx.AsyncClient, name: str) -> None:
    refused(await post(client, json.dumps({k: v for k, v in TASK.items() if k != name})), 400, f"{name} 缺失")


BAD_BODIES = [
    b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff{}", b'\xef\xbb\xbf{}', b"{'a': 1}", b"[" * 100_000,
    b'{"a":' * 100_000, b'{"\\u0000": 1}', b'{"\\udfff": 1}',
]  # fmt: skip


@pytest.mark.parametrize("raw", BAD_BODIES, ids=range(len(BAD_BODIES)))
async def test_a_bad_body_is_refused(client: httpx.AsyncClient, raw: bytes) -> None:
    refused(await post(client, raw), 400, "body")


BAD_TYPES = [
    ";", "application/json, text/plain", "application/json;charset=", "application/json; charset=utf-8; charset=gbk",
    "application/json" + ";" * MAX_CONTENT_TYPE, "application/json;x=" + "y" * 182,
    'application/json;x="' + ";" * 31_000,
]  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["text/plain", "", "application/json; charset=latin-1", "application/jsonx", *BAD_TYPES]
)
async def test_another_content_type_is_refused(client: httpx.AsyncClient, kind: str) -> None:
    refused(await post(client, json.dumps(TASK), **{"content-type": kind}), 400, "Content-Type")


async def test_a_long_content_type_is_refused_unread(client: httpx.AsyncClient) -> None:
    """Python reads it in quadratic time: one head took half a second, this one would take minutes."""
    began = time.thread_time()
    kind = 'application/json; a="' + ";" * 1_000_000
    refused(await post(client, json.dumps(TASK), **{"content-type": kind}), 400, "Content-Type")
    assert time.thread_time() - began < 2


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON;charset=UTF-8",
        'application/json; charset="utf-8"',
        " application/json ;x=y; charset = utf8;",
        "application/json;x=" + "y" * 181,
    ],
)
async def test_json_is_accepted(client: httpx.AsyncClient, kind: str) -> None:
    answer = await post(client, json.dumps({**TASK, "payload": "图😀"}), **{"content-type": kind})
    assert answer.json() == ok("图😀")


async def test_more_than_a_mebibyte_is_refused_before_it_is_read(client: httpx.AsyncClient) -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b" " * 65536

    refused(await client.post("/tasks", content=chunks(), headers={"content-type": "application/json"}), 400, "1 MiB")
    assert sent <= 18
    refused(await post(client, b" " * (1024 * 1024 + 1)), 400, "1 MiB")


async def test_a_value_is_never_echoed(client: httpx.AsyncClient) -> None:
    answer = await post(client, with_field("taskType", '"hunter2"'))
    assert "hunter2" not in answer.text
    assert "hunter2" not in (await client.get("/number/hunter2")).text


ANSWERS = [
    ("/number/x", 400, ": number 必须是整数"),
    ("/number/9223372036854775808", 400, ": number 必须是整数"),
    ("/number/1.0", 400, "number"),
    ("/number/1_0", 400, "number"),
    ("/number/%D9%A1", 400, "number"),
    ("/number/1%00", 400, "number"),
    ("/number/1?status=queued", 400, ": status 不是允许的取值"),
    ("/reason", 400, ": reason 缺失"),
    ("/reason?reason=", 400, ": reason 不能为空"),
    ("/reason?reason=%20%E3%80%80", 400, ": reason 不能为空"),
    ("/reason?reason=" + "x" * 501, 400, ": reason 过长"),
    ("/reason?reason=%00", 400, ": reason 含有控制字符"),
    ("/whole?page=0", 400, ": page 必须是 1 到 2147483647 的整数"),
    ("/whole?size=101", 400, ": size 必须是 1 到 100 的整数"),
    ("/nowhere", 404, "资源不存在"),
    ("/tasks", 404, "资源不存在"),
    ("/raise/task", 404, "任务不存在"),
    ("/raise/down", 503, "稍后重试"),
    ("/raise/bug", 500, "操作失败: 服务器内部错误"),
    ("/list?page=0", 400, "page"),
    ("/list?page=", 400, "page"),
    ("/list?page=2147483648", 400, "page"),
    ("/list?size=101", 400, "size"),
    ("/list?size=1.0", 400, "size"),
    ("/list?size=%2B1", 400, "size"),
    ("/list?size=%D9%A1", 400, "size"),
]


@pytest.mark.parametrize(("path", "code", "word"), ANSWERS, ids=[a[0] for a in ANSWERS])
async def test_every_error_has_the_shape(client: httpx.AsyncClient, path: str, code: int, word: str) -> None:
    answer = await client.get(path)
    refused(answer, code, word)
    assert "secret" not in answer.text
    assert answer.headers.get("retry-after") == ("1" if code == 503 else None)


async def test_a_page_has_links(client: httpx.AsyncClient) -> None:
    answer = await client.get("/list", params={"status": "A&B", "page": 2, "size": 20})
    assert answer.json()["data"] == [20, 20]
    assert answer.headers["x-total-count"] == "45"
    links = answer.links
    assert links["next"]["url"] == "/list?status=A%26B&page=3&size=20"
    assert {rel: link["url"].partition("page=")[2][0] for rel, link in links.items()} == {
        "first": "1", "prev": "1", "next": "3", "last": "3",
    }  # fmt: skip
    assert "next" not in (await client.get("/list?page=3")).links
    assert "page=3&" in (await client.get("/list?page=9")).links["prev"]["url"]


def test_every_domain_error_has_a_status() -> None:
    kinds = {kind for _, kind in inspect.getmembers(domain, inspect.isclass) if issubclass(kind, domain.DomainError)}
    assert kinds - {domain.DomainError} == set(CODES)


async def test_a_reason_holds_no_control_character(client: httpx.AsyncClient) -> None:
    for control in ("%09", "%0A", "%7F", "%C2%85"):
        refused(await client.get(f"/reason?reason=a{control}b"), 400, ": reason 含有控制字符")


def filled(values: int) -> str:
    """A body of a given number of values, one of them its own, in an unknown field."""
    return with_field("unknown", "[" + ",".join(["[]"] * (values - len(TASK) - 2)) + "]")


async def test_a_body_has_at_most_so_many_values(client: httpx.AsyncClient) -> None:
    assert (await post(client, filled(20_000))).status_code == 200
    refused(await post(client, filled(20_001)), 400, ": body 含有超过 20000 个JSON值")


async def test_a_body_is_nested_so_deep(client: httpx.AsyncClient) -> None:
    assert (await post(client, with_field("unknown", "[" * 63 + "1" + "]" * 63))).status_code == 200
    refused(await post(client, with_field("unknown", "[" * 64 + "]" * 64)), 400, ": body 嵌套超过 64 层")
    refused(await post(client, with_field("taskType", '{"a":' * 64 + "1" + "}" * 64)), 400, ": body 嵌套超过 64 层")


@pytest.mark.parametrize("part", ["[],", '"",', "{},", "1,", '{"a":{"b":1}},', "[[[]]],", "1e300,", '"\\n",'])
async def test_a_body_that_is_all_structure_costs_little(client: httpx.AsyncClient, part: str) -> None:
    """Measured in the loop's own thread: invariant 16."""
    raw = ('{"x":[' + part * (1024 * 1024 // len(part) - 10) + "0]}").encode()
    started = time.thread_time()
    for _ in range(10):
        refused(await post(client, raw), 400, ": body 含有超过 20000 个JSON值")
    assert (time.thread_time() - started) / 10 < 0.02


@pytest.mark.parametrize("key", ["", " ", "x" * 256], ids=len)
async def test_an_idempotency_key_is_not_empty_and_not_endless(client: httpx.AsyncClient, key: str) -> None:
    refused(await post(client, json.dumps(TASK), **{"idempotency-key": key}), 400, ": Idempotency-Key ")


async def test_a_list_is_whole_unless_a_page_is_asked_for(client: httpx.AsyncClient) -> None:
    whole = await client.get("/whole")
    assert (whole.json()["data"], whole.headers["x-total-count"], whole.links) == ([*range(45)], "45", {})
    page = await client.get("/whole?page=2&size=20&status=x")
    assert (page.json()["data"], page.headers["x-total-count"]) == ([*range(20, 40)], "45")
    assert page.links["next"]["url"] == "/whole?status=x&page=3&size=20"
    assert (await client.get("/whole?size=44")).json()["data"] == [*range(44)]
    assert (await client.get("/whole?page=3")).json()["data"] == [*range(40, 45)]
    assert (await client.get("/whole?page=2147483647")).json()["data"] == []


async def test_payload_arrives_as_it_was_sent(client: httpx.AsyncClient) -> None:
    for text in ("a\x01b", "a\nb", "a\x7fb", "a\x85b"):
        assert (await post(client, json.dumps(TASK | {"payload": text}))).json() == ok(text)
    refused(await post(client, with_field("payload", '"' + "x" * 262_145 + '"')), 400, "payload 超过 256 KiB")
