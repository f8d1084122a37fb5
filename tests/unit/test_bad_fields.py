"""Every field of every body, and every parameter, against every kind of bad value (INVARIANTS, "Answers to bad input").

The fields come from the OpenAPI document: a new one is tested as soon as it is documented. The whole application runs
in process, and its database is away: a request's fault is answered before its subject is looked for.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.contract import PREFIX
from tests.unit.whole_api import ask, client, document
from workflows.notifications import Notifications

DOCUMENT = document()
CANARY = "zq9-canary"
UNKNOWN = {"taskId": "task_none", "gpuId": "gpu_none", "alertId": "alert_999999", "taskType": "1",
           "groupId": "group_none", "operationId": "op_none", "webhookId": "wh_none",
           "deliveryId": "dlv_999999"}  # fmt: skip

TEXTS = {"an integer": "1", "true": "true", "a list": "[]", "an object": "{}", "NUL": rf'"{CANARY}\u0000"',
         "a lone surrogate": rf'"{CANARY}\ud800"', "another": rf'"\udfff{CANARY}"'}  # fmt: skip
INTEGERS = {"true": "true", "false": "false", "a text": '"1"', "a fraction": "1.5", "NaN": "NaN",
            "-Infinity": "-Infinity", "1e999": "1e999", "2^63": str(2**63),
            "-2^63-1": str(-(2**63) - 1), "a list": "[1]"}  # fmt: skip
BOOLEANS = {"an integer": "1", "0": "0", "a text": '"true"', "a list": "[true]", "an object": "{}"}
ENUMS = {"an unknown name": f'"{CANARY}"', "lower case": '"processing"', "a number": "1"}
LISTS = {
    "an integer": "1",
    "an object": "{}",
    "nothing in it": "[]",
    **{f"[{k}]": f"[{v}]" for k, v in INTEGERS.items()},
}
OBJECTS = {"a text": f'"{CANARY}"', "a list": "[]", "NUL": rf'{{"a": "{CANARY}\u0000"}}',
           "NUL in a name": rf'{{"{CANARY}\u0000": 1}}', "NaN": '{"a": NaN}', "1e999": '{"a": [1e999]}',
           "2^63": f'{{"a": {2**63}}}',
           "a lone surrogate within": rf'{{"a": [{{"b": "{CANARY}\ud800"}}]}}',
           "too deep": '{"a": ' + "[" * 101 + "]" * 101 + "}", "endless": '{"a": ' + "[" * 100_000}  # fmt: skip
KINDS = {"string": TEXTS, "integer": INTEGERS, "boolean": BOOLEANS, "array": LISTS, "object": OBJECTS}
TOO_LARGE = {"payload": json.dumps("密" * (256 * 1024 // 3 + 1)), "metadata": json.dumps({"a": "密" * 6000}),
             "userId": json.dumps("x" * 129), "app": json.dumps("x" * 129), "env": json.dumps("x" * 65),
             "gpuId": json.dumps("x" * 129), "hostname": json.dumps("x" * 256), "version": json.dumps("x" * 65),
             "dispatchSecret": json.dumps("x" * 257), "vastInsId": json.dumps("x" * 129), "timeout": "86400001",
             "maxRetries": "101", "progress": "101", "port": "65536", "maxConcurrentTasks": "1025",
             "supportedTaskTypes": json.dumps(list(range(65))), "deadline": "253402300800000",
             "expiresIn": "31536000001", "maxWait": "31536001", "groupId": json.dumps("x" * 129),
             "url": json.dumps("https://example.com/" + "x" * 2048), "description": json.dumps("手" * 501),
             "from": "253402300800000", "to": "253402300800000", "reason": json.dumps("手" * 501)}  # fmt: skip
TOO_SMALL = {"timeout": "0", "maxRetries": "-1", "progress": "-1", "port": "0", "maxConcurrentTasks": "0",
             "userId": '""', "app": '""', "gpuId": '""', "hostname": '""', "reason": '" "', "from": "-1", "to": "-1",
             "deadline": "1703123456789", "expiresIn": "0", "maxWait": "-1", "groupId": '""'}  # fmt: skip
NO_JSON = {"nothing": '""', "half": '"{"', "NaN": '"NaN"', "1e999": '"[1e999]"', "words": f'"{CANARY}"',
           "NUL within": r'"\"\\u0000\""', "deep": json.dumps("[" * 101 + "]" * 101)}  # fmt: skip


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = DOCUMENT["components"]["schemas"][node["$ref"].rpartition("/")[2]]
    return node


@dataclass(frozen=True)
class Body:
    """An operation with a body, and the sample that it takes."""

    method: str
    path: str
    schema: dict[str, Any]
    sample: dict[str, Any]
    required: bool

    @property
    def name(self) -> str:
        path = self.path.removeprefix("/")
        return path if self.method == "post" else f"{self.method} {path}"

    def with_raw(self, field: str, raw: str) -> bytes:
        """The sample with the JSON text `raw` in one field."""
        return json.dumps(self.sample | {field: "@@"}).replace('"@@"', raw).encode()


def bodies() -> Iterator[Body]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if (request := operation.get("requestBody")) is not None:
                content = request["content"]["application/json"]
                name = path.removeprefix(PREFIX).format(**UNKNOWN)
                yield Body(method, name, resolved(content["schema"]), content["example"], request["required"])


BODIES = list(bodies())


def bad_values(name: str, schema: dict[str, Any]) -> dict[str, str]:
    """Values that a field must refuse, by its kind."""
    options = [resolved(one) for one in schema.get("anyOf", [schema])]
    kind = next(one for one in options if one.get("type") != "null")
    values = dict(ENUMS if "enum" in kind else KINDS[kind["type"]])
    if not any(one.get("type") == "null" for one in options):
        values["null"] = "null"
    values |= {
        kind: table[name] for kind, table in (("too large", TOO_LARGE), ("too small", TOO_SMALL)) if name in table
    }
    return values | (NO_JSON if name == "result" else {})


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with client("admin", Notifications()) as caller:  # for the attempt that a refused report closes
        yield caller


FIELDS = [
    pytest.param(body, name, raw, id=f"{body.name}-{name}-{what}")
    for body in BODIES
    for name, schema in body.schema["properties"].items()
    for what, raw in bad_values(name, schema).items()
]


def test_the_table_is_whole() -> None:
    assert sorted(body.name for body in BODIES) == [
        "gpus/gpu_none/drain",
        "gpus/register",
        "patch tasks/task_none",
        "tasks",
        "tasks/batch",
        "tasks/cancel",
        "tasks/retry",
        "tasks/task_none/cancel",
        "tasks/task_none/result",
        "tasks/task_none/status",
        "webhooks",
        "webhooks/wh_none/replay",
    ]
    assert len(FIELDS) > 150


def refused(response: Any, field: str) -> None:
    body = response.json()
    assert (response.status_code, list(body), body["code"], body["data"]) == (
        400, ["code", "message", "data"], 400, None)  # fmt: skip
    assert field in body["message"], body
    assert CANARY not in response.text


@pytest.mark.parametrize(("body", "field", "raw"), FIELDS)
async def test_a_bad_value_is_refused_by_its_field_s_name(http, body, field, raw):
    content = body.with_raw(field, raw)
    response = await http.request(body.method, body.path, content=content, headers={"Content-Type": "application/json"})
    refused(response, "body" if "[" * 99 in raw and field != "result" else field)  # its fields are not looked at


@pytest.mark.parametrize(
    ("body", "field"),
    [pytest.param(body, name, id=f"{body.name}-{name}") for body in BODIES for name in body.schema.get("required", ())],
)
async def test_a_missing_field_is_named(http, body, field):
    refused(
        await http.request(body.method, body.path, json={k: v for k, v in body.sample.items() if k != field}), field
    )


CONTENTS = {
    "nothing": b"",
    "half an object": b'{"a": ',
    "a list": b"[]",
    "a text": f'"{CANARY}"'.encode(),
    "null": b"null",
    "a number": b"1",
    "no UTF-8": b'{"app": "\xff"}',
    "UTF-16": '{"app": "x"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "two values": b"{} {}",
    "a comment": b"{} // x",
    "a name twice": b'{"app": "a", "app": "b"}',
    "a name twice within": b'{"metadata": {"a": 1, "a": 2}}',
    "an unknown field with NUL": rf'{{"{CANARY}": "\u0000"}}'.encode(),
    "an unknown name with NUL": rf'{{"{CANARY}\u0000": 1}}'.encode(),
    "more than 1 MiB": b'{"x": "' + b"x" * 1024 * 1024 + b'"}',
}
by_body = pytest.mark.parametrize("body", BODIES, ids=lambda body: body.name)


@by_body
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
async def test_what_is_no_json_object_is_refused(http, body, content):
    if not content and not body.required:
        return
    refused(
        await http.request(body.method, body.path, content=content, headers={"Content-Type": "application/json"}), ""
    )


@by_body
async def test_more_than_a_mebibyte_is_refused_though_its_length_was_not_declared(http, body):
    async def chunks():
        for _ in range(17):
            yield b"x" * 65536

    refused(
        await http.request(body.method, body.path, content=chunks(), headers={"Content-Type": "application/json"}),
        "body",
    )


@by_body
@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=gbk"]
)
async def test_another_content_type_is_refused(http, body, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    refused(
        await http.request(body.method, body.path, content=json.dumps(body.sample).encode(), headers=headers),
        "Content-Type",
    )


NUMBERS = ["", "x", "1.5", "1e2", "+1", " 1", "１", "0x1", "NaN", "true", str(2**63), str(-(2**63) - 1), "%00", "1%00"]
PAGES = [*NUMBERS, "0", "-1", str(2**31)]
PARAMETERS = {  # what is asked -> values that it must refuse
    "page": PAGES,
    "size": [*PAGES, "101"],
    "taskType": NUMBERS,
    "status": ["", CANARY, "queued", "%00", "%FF", "%ED%A0%80"],
    "level": ["", CANARY, "critical", "%00"],
    "priority": ["", CANARY, "vip", "%00"],
    "keyId": ["", "%00", "%FF", "%ED%A0%80"],
    "after": ["", CANARY, "%00", "5", "evt_0_0_0", "evt_00000000_1_g", "evt_00000000_1_" + "f" * 16],
    "types": ["", CANARY, "%00", "reset", "task.ended,"],
    "limit": [*PAGES, "1001"],
    "owner": ["", "%00", "%FF", "%ED%A0%80"],
    "app": ["", "%00", "%0A", "%FF"],
    "userId": ["", "%00", "%0A", "%FF"],
    "groupId": ["", "%00", "%0A", "%FF"],
    "endReason": ["", CANARY, "cancelled", "%00"],
    "createdAfter": [*NUMBERS, "0", "253402300800000"],
    "createdBefore": [*NUMBERS, "0", "253402300800000"],
    "action": ["", CANARY, "%00"],
    "gpuId": ["", "%00", "%0A", "%7F", "%C2%9F", "%FF", "%ED%A0%80"],
    "reason": ["", "%20", "%00", "%0A", "a%09", "%7F", "%C2%85", "x" * 501, "手" * 501, "%FF", "%ED%A0%80"],
}


def parameters() -> Iterator[Any]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            for one in operation.get("parameters", []):
                if one["in"] == "query":
                    where = path.removeprefix(PREFIX).format(**UNKNOWN)
                    values = [*PARAMETERS[one["name"]], *([None] if one.get("required") else [])]
                    for value in values:
                        yield pytest.param(
                            method, where, one["name"], value, id=f"{where[1:]}-{one['name']}-{value}"[:80]
                        )


@pytest.mark.parametrize(("method", "path", "name", "value"), list(parameters()))
async def test_a_bad_parameter_is_refused_by_its_name(http, method, path, name, value):
    query = "" if value is None else f"?{name}={value}"
    response = await http.request(method, path + query)
    refused(response, "URL" if value and ("%FF" in value or "%ED" in value) else name)


@pytest.mark.parametrize("query", ["page=1&page=2", "status=QUEUED&status=FAILED", "gpuId=a&gpuId=a", "x=1&x=2"])
async def test_a_parameter_comes_once(http, query):
    refused(await http.get(f"/tasks?{query}"), query.partition("=")[0])


@pytest.mark.parametrize(
    "path",
    [
        "/tasks/%00",
        "/tasks/a%0A",
        "/gpus/%C2%85",
        "/tasks/%00/events",
        "/gpus/%00",
        "/gpus/by-task-type/%00",
        "/tasks/%FF",
        "/gpus/%ED%A0%80",
        "/%FF",
    ],
)
async def test_a_path_that_can_not_be_stored_is_refused(http, path):
    refused(await http.get(path), "")


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", b"\x85"], ids=ascii)
async def test_an_idempotency_key_is_a_word(http, key):
    task = next(body for body in BODIES if body.path == "/tasks")
    refused(await http.post("/tasks", json=task.sample, headers={"Idempotency-Key": key}), "Idempotency-Key")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"status": "FAILED"}, "status"),
        ({"priority": 3, "payload": "{}"}, "payload"),
        ({"priority": "3", "taskType": 1}, "taskType"),
        ({"priority": 3, f"{CANARY} {CANARY}": 1}, "body"),
        ({}, "priority"),
    ],
)
async def test_a_task_s_priority_alone_may_be_changed(http, body, field):
    refused(await http.patch("/tasks/task_none", json=body), field)


@pytest.mark.parametrize("status", ["PROCESSING", "QUEUED"])
async def test_only_a_failure_is_rejected(status):
    body = {"status": status, "gpuId": "gpu_none", "rejected": True}
    async with client("admin", Notifications()) as caller:  # for the attempt that is handed back all the same
        refused(await caller.post("/tasks/task_none/status", json=body), "rejected")
    good = await ask("admin", "POST", "/tasks/task_none/status", json=body | {"rejected": False})
    assert good.status_code == 503
