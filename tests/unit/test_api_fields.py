"""Fields of bodies, headers and paths: what each may hold, and how it is read (INVARIANTS, Answers to bad input)."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from api.http.body import check_depth, check_json_text, parse
from api.http.errors import BadRequest
from api.schemas import (
    alerts,
    batches,
    cluster,
    create_task,
    gpus,
    monitoring,
    operations,
    reports,
    steering,
    tasks,
    webhooks,
)
from api.schemas.create_task import CreateTask
from api.schemas.fields import Request, sample_of
from api.schemas.gpus import RegisterGpu
from api.schemas.params import NodeId
from api.schemas.reports import START, RefusedStatus, UpdateResult, UpdateStatus
from api.schemas.words import printable_header
from workflows.domain.task import TaskStatus

GPU: dict[str, Any] = {"gpuId": "gpu_001", "hostname": "h", "ip": "10.0.0.1", "port": 80, "supportedTaskTypes": [2]}


@pytest.mark.parametrize("change", [
    {"gpuId": "a/b"}, {"gpuId": "a\n"}, {"gpuId": "."}, {"gpuId": ".."}, {"gpuId": None},
    {"port": 0}, {"port": True}, {"supportedTaskTypes": []},
    {"supportedTaskTypes": [True]}, {"supportedTaskTypes": list(range(65))}, {"supportedTaskPriority": "vip"},
    {"supportedTaskPriority": 1}, {"maxConcurrentTasks": 0}, {"metadata": []}, {"metadata": {"a": "x" * 16384}},
    {"version": 1},
], ids=str)  # fmt: skip
def test_a_bad_registration_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refusal:
        parse(RegisterGpu, {**GPU, **change})
    assert refusal.value.field == next(iter(change))


def test_a_registration_is_read() -> None:
    assert len(parse(RegisterGpu, {**GPU, "supportedTaskTypes": list(range(64))}).task_types) == 64
    gpu = parse(RegisterGpu, {**GPU, "supportedTaskTypes": [3, 2, 3], "surplus": 1})
    assert (gpu.task_types, gpu.priority_queue, gpu.metadata) == ([3, 2], "NORMAL", {})


@pytest.mark.parametrize("gpu_id", ["...", ".a", "..a", "....", "a.", "a..", ":", "-.."])
def test_a_gpu_has_a_name_that_no_client_resolves(gpu_id: str) -> None:
    assert parse(RegisterGpu, {**GPU, "gpuId": gpu_id}).gpu_id == gpu_id


@pytest.mark.parametrize(("group_id", "fits"), [
    (".", False), ("..", False), ("a/b", False), ("", False), ("...", True), (".图", True), ("..a", True),
    ("a..", True), ("a b", True),
])  # fmt: skip
def test_a_group_has_a_name_that_fits_a_path(group_id: str, fits: bool) -> None:
    body = sample_of(CreateTask) | {"groupId": group_id}
    if fits:
        assert parse(CreateTask, body).group_id == group_id
    else:
        with pytest.raises(BadRequest, match=": groupId "):
            parse(CreateTask, body)


REQUESTS = [
    model for module in (batches, create_task, gpus, operations, reports, steering, webhooks)
    for _, model in inspect.getmembers(module, inspect.isclass)
    if issubclass(model, Request) and model.__module__ == module.__name__ and "json_schema_extra" in model.model_config
]  # fmt: skip
DEFAULTS = [
    (model, name)
    for model in REQUESTS
    if model is not operations.Filter
    for name, field in model.model_json_schema()["properties"].items()
    if name not in model.model_json_schema().get("required", ())
]


def test_fields_of_all_kinds_have_a_default() -> None:
    assert {name for _, name in DEFAULTS} >= {
        "priority", "env", "timeout", "version", "metadata", "maxConcurrentTasks", "supportedTaskPriority", "vastInsId",
        "dryRun", "failedOnly", "reason", "groupId",
    }  # fmt: skip


@pytest.mark.parametrize(("model", "name"), DEFAULTS)
def test_null_is_absent_where_a_field_has_a_default(model: type[Request], name: str) -> None:
    given = {key: value for key, value in sample_of(model).items() if key != name}
    if issubclass(model, operations.Bulk):
        given |= {"ids": ["task_1"]} if name == "filter" else {}
    assert parse(model, given | {name: None}) == parse(model, given)
    schema = model.model_json_schema()["properties"][name]
    assert {"type": "null"} in schema["anyOf"]


def test_a_batch_may_hold_nulls_and_a_key_means_the_same_body() -> None:
    task = sample_of(CreateTask) | {"priority": None, "env": None, "groupId": None}
    bare = {name: value for name, value in task.items() if value is not None}
    (read,) = parse(batches.CreateBatch, {"tasks": [task], "groupId": None}).tasks
    assert read.canonical_json() == parse(CreateTask, bare).canonical_json()


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


def test_a_long_message_is_cut_in_its_middle() -> None:
    exact = parse(UpdateStatus, {"status": "FAILED", "gpuId": "g", "message": "图" * 4096})
    assert exact.message == "图" * 4096
    long = parse(UpdateStatus, {"status": "FAILED", "gpuId": "g", "message": "Traceback" + "x" * 9999 + "MemoryError"})
    assert long.message is not None
    assert (len(long.message), long.message[:10], long.message[-12:]) == (4096, "Tracebackx", "xMemoryError")
    assert long.message.count("…") == 1


SAID = {"status": "FAILED", "gpuId": "g", "message": "why"}
READABLE = [
    (rb'{"status":"FAILED","gpuId":"g","message":"w\u0000h\ud800y\udfff"}', SAID),
    (b'{"status":"FAILED","gpuId":"g","message":"w\0h\xffy"}', SAID),
    (b'{"status":"QUEUED","message":"why","x":NaN,"y":1e999}', SAID | {"status": "QUEUED", "gpuId": None}),
    (b'{"status":"FAILED","gpuId":"g","message":{"a":1},"progress":101}', SAID | {"message": None}),
    (b'{"status":"FAILED","gpuId":"g","message":"why","rejected":true,"x":' + b"9" * 50 + b"}",
     SAID | {"rejected": True}),
    (b'{"status":"FAILED","gpuId":"g","message":"why","rejected":1}', SAID),
]  # fmt: skip
UNREADABLE = [
    b"", b"{", b"[]", b'{"status":"FAILED","gpuId":"g","message":"why"', b'{"status":"failed","gpuId":"g"}',
    b'{"gpuId":"g","message":"why"}', b'{"status":["FAILED"],"gpuId":"g"}', b'{"status":"FAILED","gpuId":"a b"}',
    b'{"status":"FAILED","gpuId":"g","message":' + b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize(("body", "said"), READABLE, ids=range(len(READABLE)))
def test_what_a_refused_report_says_is_read(body: bytes, said: dict[str, Any]) -> None:
    for whole in (True, False):
        read = RefusedStatus.of(body, whole=whole)
        assert read is not None
        assert read.model_dump(by_alias=True) == {"rejected": False} | said


@pytest.mark.parametrize("body", UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_says_no_status_is_not_guessed(body: bytes) -> None:
    assert RefusedStatus.of(body, whole=True) is None


@pytest.mark.parametrize("tail", ["x", "图", "😀", "\\ud83d\\ude00", "\\u0000", "\\ud83d", "\\\\", "\\n"])
def test_a_report_that_is_cut_off_keeps_the_start_of_its_message(tail: str) -> None:
    for shift in range(12):
        start = '{"status":"FAILED","gpuId":"g","message":"' + "x" * shift
        read = RefusedStatus.of((start + tail * START).encode(), whole=False)
        assert read is not None
        assert read.message is not None
        assert (read.status, read.gpu_id, read.message[:shift]) == ("FAILED", "g", "x" * shift)
        read.message.encode()
    assert RefusedStatus.of(b'{"message":"' + b"x" * START + b'","status":"FAILED","gpuId":"g"}', whole=False) is None


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_payload_and_message_hold_what_they_hold(control: str) -> None:
    text = f"a{control}b"
    assert parse(CreateTask, sample_of(CreateTask) | {"payload": text}).payload == text
    assert parse(UpdateStatus, {"status": "FAILED", "gpuId": "g", "message": text}).message == text


def test_what_is_too_large_is_called_so() -> None:
    with pytest.raises(BadRequest, match="payload 超过 256 KiB"):
        parse(CreateTask, sample_of(CreateTask) | {"payload": "x" * 262_145})
    with pytest.raises(BadRequest, match="metadata 超过 16 KiB"):
        parse(RegisterGpu, {**GPU, "metadata": {"a": "x" * 16_384}})
