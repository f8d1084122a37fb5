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
from pydantic import BaseModel, TypeAdapter, ValidationError

from api.http.body import JsonBody, check_depth, check_json_text, parse
from api.http.envelope import Envelope, ok
from api.http.errors import CODES, BadRequest, install
from api.http.paging import PageOf, WholeOrPageOf
from api.middleware.error_shield import ErrorShield
from api.schemas import alerts, cluster, create_task, gpus, monitoring, reports, tasks
from api.schemas.create_task import CreateTask
from api.schemas.fields import sample_of
from api.schemas.gpus import RegisterGpu
from api.schemas.params import IdempotencyKey, Integer, NodeId, Reason
from api.schemas.reports import UpdateResult, UpdateStatus
from api.schemas.words import printable_header
from workflows.domain import errors as domain
from workflows.domain.task import TaskStatus

TASK: dict[str, Any] = {"taskType": 2, "userId": "user_001", "app": "a", "payload": "{}"}
GPU: dict[str, Any] = {"gpuId": "gpu_001", "hostname": "h", "ip": "10.0.0.1", "port": 80, "supportedTaskTypes": [2]}


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


@pytest.mark.parametrize("kind", ["text/plain", "", "application/json; charset=latin-1", "application/jsonx"])
async def test_another_content_type_is_refused(client: httpx.AsyncClient, kind: str) -> None:
    refused(await post(client, json.dumps(TASK), **{"content-type": kind}), 400, "Content-Type")


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON;charset=UTF-8", 'application/json; charset="utf-8"']
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


@pytest.mark.parametrize("change", [
    {"gpuId": "a/b"}, {"gpuId": "a\n"}, {"port": 0}, {"port": True}, {"supportedTaskTypes": []},
    {"supportedTaskTypes": [True]}, {"supportedTaskTypes": list(range(65))}, {"supportedTaskPriority": "vip"},
    {"supportedTaskPriority": 1}, {"maxConcurrentTasks": 0}, {"metadata": []}, {"metadata": {"a": "x" * 16384}},
    {"version": None},
], ids=str)  # fmt: skip
def test_a_bad_registration_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refusal:
        parse(RegisterGpu, {**GPU, **change})
    assert refusal.value.field == next(iter(change))


def test_a_registration_is_read() -> None:
    assert len(parse(RegisterGpu, {**GPU, "supportedTaskTypes": list(range(64))}).task_types) == 64
    gpu = parse(RegisterGpu, {**GPU, "supportedTaskTypes": [3, 2, 3], "surplus": 1})
    assert (gpu.task_types, gpu.priority_queue, gpu.metadata) == ([3, 2], "NORMAL", {})


def test_a_status_is_one_of_the_specification() -> None:
    assert parse(UpdateStatus, {"status": "FAILED", "gpuId": "g"}).status is TaskStatus.FAILED
    with pytest.raises(BadRequest, match="status 不是允许的取值"):
        parse(UpdateStatus, {"status": "DONE", "gpuId": "g"})


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        *((text, "不是合法的JSON文本") for text in ("", "{", "NaN", "[" * 100)),
        ("[1e999]", "含有超出范围的数字"),
        (r'"\ud800"', "含有不成对的代理字符"),
        (r'{"\u0000":1}', "含有NUL字符"),
    ],
)
async def test_a_result_is_a_json_text(text: str, detail: str) -> None:
    with pytest.raises(BadRequest, match=f"result {detail}$"):
        await check_json_text(text, "result")


async def test_what_a_result_may_hold() -> None:
    await check_json_text('{"a": [1, "😀"], "a": null}', "result")
    await check_json_text(str(2**64 - 1), "result")  # a seed, say: it stays text


async def test_a_result_is_nested_a_hundred_levels_deep() -> None:
    await check_json_text("[" * 100 + "]" * 100, "result")
    with pytest.raises(BadRequest, match="result 嵌套超过 100 层"):
        await check_json_text("[" * 101 + "]" * 101, "result")


@pytest.mark.parametrize("levels", [101, 1000, 100_000])
async def test_a_payload_is_any_text_but_no_json_too_deep(levels: int) -> None:
    for text in ("[" * 100 + "]" * 100, "{" * 900, "[] " * 900, "no JSON"):
        await check_depth(text, "payload")
    with pytest.raises(BadRequest, match="payload 嵌套超过 100 层"):
        await check_depth("[" * levels + "]" * levels, "payload")


async def test_an_ordinary_payload_does_not_wait_for_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("api.http.body.off_loop.run", never)
    await check_depth("[" * 50 + "x" * 500_000, "payload")


async def test_a_result_is_bounded_by_its_bytes_alone() -> None:
    await check_json_text("[" + "0.5," * 250_000 + "1]", "result")
    await check_json_text("[" + "[]," * 300_000 + "1]", "result")


def test_a_path_holds_no_control_character() -> None:
    path = TypeAdapter(NodeId)
    assert path.validate_python("gpu_001 图\u202e\u200b") == "gpu_001 图\u202e\u200b"
    for bad in ("a\0", "\udc80", "\n", "a\t", "\x7f", "\x85", "\x9f"):
        with pytest.raises(ValidationError, match=r"含有控制字符|string_unicode"):
            path.validate_python(bad)


@pytest.mark.parametrize("raw", [b"a", "图".encode(), b"\xff", "é".encode(), b"\xa0"])
def test_a_header_may_be_utf_8_or_latin_1(raw: bytes) -> None:
    assert printable_header(raw.decode("latin-1"))


@pytest.mark.parametrize("raw", [b"a\tb", b"\x85", "\x85".encode(), b"\x7f", b"\xff\x9f"])
def test_a_header_holds_no_control_character(raw: bytes) -> None:
    with pytest.raises(ValueError, match="含有控制字符"):
        printable_header(raw.decode("latin-1"))


CONTROLS = ["\x01", "\t", "\n", "\r", "\x1b", "\x1f", "\x7f", "\x80", "\x85", "\x9f"]
EXEMPT = {"payload", "message", "result"}
LINES = [
    (model, name)
    for model in (CreateTask, RegisterGpu, UpdateStatus, UpdateResult)
    for name, value in sample_of(model).items()
    if name not in EXEMPT and isinstance(value, str | dict)
]


def test_every_text_of_a_request_is_a_line() -> None:
    assert {name for _, name in LINES} >= {"userId", "app", "env", "gpuId", "hostname", "ip", "version", "metadata"}


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
@pytest.mark.parametrize(("model", "name"), LINES)
def test_a_field_holds_no_control_character(model: type[BaseModel], name: str, control: str) -> None:
    values: list[Any] = [f"a{control}b", f"a{control}", f"{control}a"]
    if name == "metadata":
        values = [{"a": [{"b": v}]} for v in values] + [{v: 1} for v in values]
    for value in values:
        with pytest.raises(BadRequest, match=f": {name} "):
            parse(model, sample_of(model) | {name: value})


@pytest.mark.parametrize("name", ["vastInsId"])
def test_an_optional_field_holds_no_control_character(name: str) -> None:
    with pytest.raises(BadRequest, match=f": {name} 含有控制字符"):
        parse(RegisterGpu, GPU | {name: "a\n"})


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
async def test_payload_and_message_hold_what_they_hold(client: httpx.AsyncClient, control: str) -> None:
    answer = await post(client, json.dumps(TASK | {"payload": f"a{control}b"}))
    assert answer.json() == ok(f"a{control}b")
    assert parse(UpdateStatus, {"status": "FAILED", "gpuId": "g", "message": f"a{control}b"}).message == f"a{control}b"


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


MODELS = [
    model
    for module in (alerts, cluster, create_task, gpus, monitoring, reports, tasks)
    for _, model in inspect.getmembers(module, inspect.isclass)
    if issubclass(model, BaseModel)
    and model.__module__ == module.__name__
    and "json_schema_extra" in model.model_config
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_the_sample_of_the_specification_fits(model: type[BaseModel]) -> None:
    sample = sample_of(model)
    read = model.model_validate(sample).model_dump(mode="json", exclude_unset=True, by_alias=True)
    assert json.dumps(read) == json.dumps(sample)


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


async def test_what_is_too_large_is_called_so(client: httpx.AsyncClient) -> None:
    refused(await post(client, with_field("payload", '"' + "x" * 262_145 + '"')), 400, "payload 超过 256 KiB")
    with pytest.raises(BadRequest, match="metadata 超过 16 KiB"):
        parse(RegisterGpu, {**GPU, "metadata": {"a": "x" * 16_384}})


def test_a_long_message_is_cut_in_its_middle() -> None:
    exact = parse(UpdateStatus, {"status": "FAILED", "gpuId": "g", "message": "图" * 4096})
    assert exact.message == "图" * 4096
    long = parse(UpdateStatus, {"status": "FAILED", "gpuId": "g", "message": "Traceback" + "x" * 9999 + "MemoryError"})
    assert long.message is not None
    assert (len(long.message), long.message[:10], long.message[-12:]) == (4096, "Tracebackx", "xMemoryError")
    assert long.message.count("…") == 1
