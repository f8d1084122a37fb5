"""The OpenAPI document against the specification, endpoint by endpoint and field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
from openapi_spec_validator import validate

from api.app import create_app
from tests.api.specification import CODES, ENDPOINTS, MODELS, MORE, MORE_OF_ALERT, SECTIONS, Endpoint
from tests.contract import PREFIX, Contract

DOCUMENT: dict[str, Any] = create_app(MagicMock()).openapi()
CONTRACT = Contract(DOCUMENT)
OURS = {
    "扩展 获取任务时间线",
    "扩展 获取审计日志",
    "扩展 获取密钥列表",
    "扩展 停止派发新任务",
    "扩展 恢复派发任务",
    "扩展 取消任务",
    "扩展 重试任务",
    "扩展 修改优先级",
    "扩展 批量创建任务",
    "扩展 获取任务组进度",
    "扩展 批量取消任务",
    "扩展 批量重试任务",
    "扩展 获取批量操作的进度",
    "扩展 获取事件",
    "扩展 订阅事件",
    "扩展 订阅任务",
    "扩展 创建Webhook",
    "扩展 获取Webhook列表",
    "扩展 生成任务Webhook密钥",
    "扩展 删除Webhook",
    "扩展 轮换Webhook密钥",
    "扩展 测试Webhook",
    "扩展 获取投递列表",
    "扩展 重新投递一段时间的事件",
    "扩展 重新投递一个事件",
}


def operation(endpoint: Endpoint) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][PREFIX + endpoint.path][endpoint.method.lower()]
    return found


def operations() -> Iterator[dict[str, Any]]:
    for path, item in DOCUMENT["paths"].items():
        if path.startswith(PREFIX):
            yield from item.values()


def parameters(endpoint: Endpoint) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in operation(endpoint).get("parameters", [])}


def content(node: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = CONTRACT.resolved(node)["content"]["application/json"]
    return found


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)
    json.dumps(DOCUMENT, allow_nan=False)


def test_the_endpoints_are_the_specification_s_and_ours() -> None:
    titles = [one["summary"] for one in operations()]
    assert len(ENDPOINTS) == 27
    assert sorted(titles) == sorted([endpoint.title for endpoint in ENDPOINTS] + [*OURS])


by_title = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.section)


@by_title
def test_an_endpoint_is_the_specification_s(endpoint: Endpoint) -> None:
    assert operation(endpoint)["summary"] == endpoint.title
    assert set(endpoint.parameters) <= set(parameters(endpoint))
    if endpoint.request is None:
        assert "requestBody" not in operation(endpoint)
    else:
        body = operation(endpoint)["requestBody"]
        assert body["required"]
        assert set(content(body)["schema"]) == {"$ref"}
        assert content(body)["example"] == endpoint.request
        CONTRACT.validate(content(body)["schema"], endpoint.request)


@by_title
def test_an_endpoint_s_example_is_the_specification_s(endpoint: Endpoint) -> None:
    answer = content(operation(endpoint)["responses"]["200"])
    CONTRACT.validate(answer["schema"], answer["example"])
    assert CONTRACT.resolved(answer["schema"])["required"] == ["code", "message", "data"]
    assert _without(answer["example"], (MORE | MORE_OF_ALERT) - _keys(endpoint.answer)) == endpoint.answer


def _without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(member, names) for key, member in value.items() if key not in names}
    return [_without(member, names) for member in value] if isinstance(value, list) else value


def _keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(_keys, value.values()))
    return set().union(*map(_keys, value)) if isinstance(value, list) else set()


def test_every_example_fits_its_schema() -> None:
    found = list(_examples(DOCUMENT))
    assert len(found) >= 27 + 4 + 7  # answers, bodies, refusals
    for schema, example in found:
        CONTRACT.validate(schema, example)


def _examples(node: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    if isinstance(node, dict):
        if "schema" in node and "example" in node:
            yield node["schema"], node["example"]
        for member in node.values():
            yield from _examples(member)
    elif isinstance(node, list):
        for member in node:
            yield from _examples(member)


TYPES = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "long": {"type": "integer", "format": "int64"},
    "object": {"type": "object"},
    "[2, 3, 4]": {"type": "array"},
}
EXTENSIONS = {"omitted", "purged", "draining", "drain", "endReason", "retryOf", "groupId", "expiresAt", "deadline",
              "resolvedAt"}  # fmt: skip
FIELDS = [(model, field) for model, fields in MODELS.items() for field in fields]


@pytest.mark.parametrize(("model", "field"), FIELDS, ids=[".".join(pair) for pair in FIELDS])
def test_a_field_has_the_specification_s_type(model: str, field: str) -> None:
    schema = DOCUMENT["components"]["schemas"][model]
    assert [name for name in schema["properties"] if name not in EXTENSIONS] == list(MODELS[model])
    assert schema["required"] == list(MODELS[model])
    found, said = _bare(schema["properties"][field]), MODELS[model][field]
    if "|" in said:
        assert found["enum"] == said.split("|")
    else:
        assert {key: found.get(key) for key in ("type", "format")} == {"format": None} | TYPES[said]


def _bare(schema: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind != {"type": "null"}]
    assert len(kinds) == 1
    return CONTRACT.resolved(kinds[0])


TIMES = {"timestamp", "last_heartbeat", "start_time", "startTime", "updateTime", "completedAt", "at", "since"}


def test_every_time_is_a_long() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for field in TIMES & set(schema.get("properties", ())):
            assert _bare(schema["properties"][field])["format"] == "int64", (name, field)


ENUMS = {
    ("3.1", "status"): ["QUEUED", "PROCESSING", "COMPLETED", "FAILED", "TIMEOUT"],
    ("4.1", "level"): ["CRITICAL", "WARNING", "INFO"],
    ("4.1", "status"): ["ACTIVE", "ACKNOWLEDGED"],
    ("2.3", "priority"): ["NORMAL", "VIP"],
    ("1.3", "component"): ["system", "gpu", "task", "queue", "cluster"],
    ("1.5", "key"): ["gpu_status_counts", "task_status_counts", "queue_lengths", "system_metrics"],
}


@pytest.mark.parametrize(("section", "name"), ENUMS)
def test_a_choice_is_an_enum(section: str, name: str) -> None:
    schema = parameters(SECTIONS[section])[name]["schema"]
    assert CONTRACT.resolved(schema)["enum"] == ENUMS[section, name]


def test_the_answers_choices_are_enums_too() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    health = ["HEALTHY", "DEGRADED", "UNHEALTHY"]
    for field in ("overall_health", "gpu_health", "queue_health"):
        assert _bare(schemas["HealthStatus"]["properties"][field])["enum"] == health
    assert _bare(schemas["ComponentHealth"]["properties"]["status"])["enum"] == health
    for model in ("InstanceSummary", "InstanceInfo"):
        assert schemas[model]["properties"]["role"]["enum"] == ["LEADER", "FOLLOWER"]
        assert schemas[model]["properties"]["status"]["enum"] == ["ACTIVE", "INACTIVE"]


@pytest.mark.parametrize("section", ["3.1", "4.1"])
def test_a_page_is_two_integers(section: str) -> None:
    page, size = (parameters(SECTIONS[section])[name]["schema"] for name in ("page", "size"))
    assert (page["type"], page["default"], page["minimum"]) == ("integer", 1, 1)
    assert (size["type"], size["default"], size["minimum"], size["maximum"]) == ("integer", 20, 1, 100)


@pytest.mark.parametrize("section", ["2.1", "2.3", "5.2"])
def test_a_list_that_is_whole_by_default_has_no_default_page(section: str) -> None:
    for name in ("page", "size"):
        one = parameters(SECTIONS[section])[name]
        assert not one["required"]
        assert one["schema"]["type"] == "integer"
        assert "default" not in one["schema"]


@pytest.mark.parametrize("section", ["2.1", "2.3", "3.1", "4.1", "5.2"])
def test_a_list_states_its_total(section: str) -> None:
    inexact = {"X-Total-Count-Exact"} if section == "3.1" else set()
    assert set(operation(SECTIONS[section])["responses"]["200"]["headers"]) == {"X-Total-Count", "Link"} | inexact


def test_what_is_required_is_required() -> None:
    assert parameters(SECTIONS["2.6"])["reason"]["required"]
    assert parameters(SECTIONS["2.3"])["taskType"]["schema"]["type"] == "integer"
    assert parameters(SECTIONS["3.1"])["taskType"]["schema"]["type"] == "integer"


def test_the_bodies_are_components() -> None:
    for section, name in {
        "2.4": "RegisterGpu",
        "3.5": "CreateTask",
        "3.6": "UpdateStatus",
        "3.7": "UpdateResult",
    }.items():
        body = operation(SECTIONS[section])["requestBody"]
        assert content(body)["schema"] == {"$ref": f"#/components/schemas/{name}"}


@by_title
def test_what_can_go_wrong_is_documented(endpoint: Endpoint) -> None:
    answers = operation(endpoint)["responses"]
    codes = {200, 400, 401, 403, 429, 500, 503}
    if "{" in endpoint.path and endpoint.section != "2.3":  # of a type without nodes the list is empty
        codes.add(404)
    assert {int(code) for code in answers} == codes
    for code in codes - {200}:
        failure = content(answers[str(code)])
        assert failure["schema"] == {"$ref": "#/components/schemas/Failure"}
        assert failure["example"]["code"] == code
    assert "Retry-After" in CONTRACT.resolved(answers["503"])["headers"]


def test_every_code_of_the_specification_is_documented_and_no_other_but_ours() -> None:
    codes = {int(code) for one in operations() for code in one["responses"]}
    assert codes == {*CODES, 429, 503}
    assert "HTTPValidationError" not in json.dumps(DOCUMENT)


def test_either_key_opens_the_api_and_the_probes_need_none() -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert (schemes["Bearer"]["type"], schemes["Bearer"]["scheme"]) == ("http", "bearer")
    assert (schemes["X-API-Key"]["in"], schemes["X-API-Key"]["name"]) == ("header", "X-API-Key")
    assert DOCUMENT["security"] == [{"Bearer": []}, {"X-API-Key": []}]
    assert not any("security" in one for one in operations())
    assert DOCUMENT["paths"]["/healthz"]["get"]["security"] == []
    assert DOCUMENT["paths"]["/readyz"]["get"]["security"] == []


def test_our_extensions_say_that_they_are_ours() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    headers = [parameters(SECTIONS[s])[n] for s, n in
               [("3.5", "Idempotency-Key"), ("3.6", "X-Attempt-Token"), ("3.7", "X-Attempt-Token")]]  # fmt: skip
    ours = [("CreateTask", "timeout"), ("CreateTask", "maxRetries"), ("UpdateStatus", "progress"),
            ("RegisterGpu", "dispatchSecret"), ("TaskProgress", "waiting")]  # fmt: skip
    for one in headers + [schemas[model]["properties"][field] for model, field in ours]:
        assert one["description"].startswith("扩展")
    assert "waiting" in operation(SECTIONS["3.3"])["description"]
