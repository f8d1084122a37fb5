"""The OpenAPI document: what FastAPI derives from the routes, plus what it cannot know."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, get_args, get_origin

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.http import files
from api.http.body import JsonBody
from api.http.envelope import JSON, Failure, ok
from api.http.errors import MESSAGES, TOO_OFTEN, UNAVAILABLE
from api.http.files import File
from api.http.paging import page_of, whole_or_page_of
from api.middleware.authentication import PREFIX
from api.schemas.fields import sample_of
from infra.json.off_loop import SMALL, off_loop

Object = dict[str, Any]

PATH = "/openapi.json"
REF = "#/components/schemas/{model}"
DESCRIPTION = """\
所有接口都以 `/api/v2` 为前缀，响应均为 `{"code", "message", "data"}`，HTTP 状态码与 `code` 相同。
时间戳为 Unix 毫秒；`timeout`、`processingTime` 为毫秒；`estimatedWaitTime`、`estimatedRemainingTime` 为秒。
标注“扩展”的内容是可选的补充，不改变规范中任何字段的名称、类型和含义。"""
SCHEMES = {
    "Bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer your-api-key"},
    "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
SECURITY: list[Object] = [{name: []} for name in SCHEMES]  # either
NEVER = ("HTTPValidationError", "ValidationError")
"""FastAPI's answer 422, which is 400 here."""
MAKERS = {
    ("/tasks", "taskId"): "$response.body#/data/taskId",
    ("/tasks/cancel", "operationId"): "$response.body#/data/operationId",
    ("/tasks/retry", "operationId"): "$response.body#/data/operationId",
    ("/gpus/register", "gpuId"): "$request.body#/gpuId",
}
"""The place of the id that a POST creates. The document links it to every operation whose path has that id."""

WHEN = {
    400: "请求参数错误：`message` 指出字段",
    401: "认证失败：缺少密钥、密钥无效，或给出了两个不同的密钥",
    403: "权限不足",
    404: "资源不存在",
    429: "请求过于频繁，或等待中的任务已达上限",
    500: "服务器内部错误",
    503: "依赖的服务暂不可用，没有数据丢失，可以重试",
}
EXAMPLES = MESSAGES | {
    400: "请求参数错误: page 必须是 1 到 2147483647 的整数",
    429: TOO_OFTEN,
    503: UNAVAILABLE,
}
HEADERS: dict[int, Object] = {
    401: {"WWW-Authenticate": {"schema": {"const": "Bearer"}}},
    429: {"Retry-After": {"description": "秒", "schema": {"type": "integer"}}},
    503: {"Retry-After": {"description": "秒", "schema": {"type": "integer"}}},
}
LIST_HEADERS: Object = {
    "X-Total-Count": {"description": "扩展：总数", "schema": {"type": "integer"}},
    "Link": {"description": "扩展：相邻页（RFC 8288），返回整个列表时没有", "schema": {"type": "string"}},
}


def install(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Let the application serve this document. It is built on the first request, which takes a fifth of a second."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    app.openapi = cache(lambda: _document(app, routes))  # type: ignore[method-assign]
    built: list[File] = []

    def build() -> File:
        return files.packed(bytes(JSONResponse(app.openapi()).body), JSON)

    async def openapi(request: Request) -> Response:
        if not built:
            built.append(await off_loop.run(SMALL + 1, build))
        return files.answer(built[0], request)

    app.add_route(PATH, openapi, include_in_schema=False)


def _document(app: FastAPI, routes: list[APIRoute]) -> Object:
    document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
    document["security"] = SECURITY
    document["components"] = {
        "securitySchemes": SCHEMES,
        "responses": {str(code): _error(code) for code in WHEN},
        "schemas": _schemas(document["components"]["schemas"], [body.model for one in routes for body in _bodies(one)]),
    }
    for route in routes:
        for method in route.methods or ():
            _complete(document["paths"][PREFIX + route.path_format][method.lower()], route)
    for (path, name), where in MAKERS.items():
        document["paths"][PREFIX + path]["post"]["responses"]["200"]["links"] = _links(document["paths"], name, where)
    for path in document["paths"].keys() - {PREFIX + route.path_format for route in routes}:
        document["paths"][path]["get"]["security"] = []
    return document


def _links(paths: Object, name: str, where: str) -> Object:
    """Links to every operation whose path names this id; `where` is its place in the answer."""
    operations = (
        operation
        for path, item in paths.items()
        if f"{{{name}}}" in path
        for operation in item.values()
        if JSON in operation["responses"]["200"]["content"]  # a stream has no answer to go on from
    )
    return {one["operationId"]: {"operationId": one["operationId"], "parameters": {name: where}} for one in operations}


def _schemas(found: Object, bodies: list[type[BaseModel]]) -> Object:
    """FastAPI's schemas, and those that it cannot see: bodies, which we read ourselves, and errors."""
    models: list[type[BaseModel]] = [Failure, *bodies]
    _, ours = models_json_schema([(model, "validation") for model in models], ref_template=REF)
    for schema in ours["$defs"].values():
        for field in schema.get("properties", {}).values():
            _say_default(field)
    schemas = {**found, **ours["$defs"]}
    for name in NEVER:
        schemas.pop(name, None)
    for schema in schemas.values():
        schema.pop("examples", None)  # they lack their nulls here; each endpoint shows its own in full
    return schemas


def _say_default(field: Object) -> None:
    """Put the default of a body's field into its description: generators of TypeScript demand a field that has one."""
    default = field.pop("default", None)
    if default not in (None, "", {}):
        words = [field.get("description"), f"缺省为 `{json.dumps(default)}`"]
        field["description"] = "；".join(filter(None, words))


def _complete(operation: Object, route: APIRoute) -> None:
    operation["responses"].pop("422", None)
    for body in _bodies(route):
        content = {"schema": _ref(body.model), "example": sample_of(body.model)}
        operation["requestBody"] = {"required": not body.optional, "content": {JSON: content}}
    for parameter in operation.get("parameters", []):
        parameter["schema"] = _without_null(parameter["schema"])
    _complete_success(operation["responses"]["200"], route)
    for code in _codes(operation):
        own = operation["responses"].get(str(code), {}).get("headers")  # headers of only this endpoint
        refusal = {"$ref": f"#/components/responses/{code}"}
        operation["responses"][str(code)] = _error(code) | {"headers": own} if own else refusal


def _without_null(schema: Object) -> Object:
    """Remove null from the parameters' schemas: a parameter can be left out, but is never null."""
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    for kind in schema.get("anyOf", []):
        if kind != {"type": "null"}:
            rest |= kind
    return rest


def _complete_success(success: Object, route: APIRoute) -> None:
    success["description"] = "成功"
    if JSON not in success["content"]:  # a stream
        return
    if "example" not in success["content"][JSON]:
        success["content"][JSON]["example"] = _example(route)
    if any(found.call in (page_of, whole_or_page_of) for found in _dependencies(route.dependant)):
        success["headers"] = LIST_HEADERS | success.get("headers", {})


def _example(route: APIRoute) -> Object:
    """The example of an endpoint's answer."""
    kind = route.response_model.model_fields["data"].annotation
    if get_origin(kind) is list:
        return ok([sample_of(get_args(kind)[0])])
    return ok(sample_of(kind))


def _codes(operation: Object) -> list[int]:
    """The failures of an endpoint: all of them, but 404 only if it names something that may not exist.

    It does so in its path, or in its body: then the route says so.
    """
    named = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
    may_miss = bool(named - {"taskType"}) or "404" in operation["responses"]  # a type without nodes: an empty list
    return [code for code in WHEN if code != 404 or may_miss]


def _error(code: int) -> Object:
    example = {"code": code, "message": EXAMPLES[code], "data": None}
    answer: Object = {
        "description": WHEN[code],
        "content": {JSON: {"schema": _ref(Failure), "example": example}},
    }
    return answer | ({"headers": HEADERS[code]} if code in HEADERS else {})


def _ref(model: type[BaseModel]) -> Object:
    return {"$ref": REF.format(model=model.__name__)}


def _bodies(route: APIRoute) -> list[JsonBody[Any]]:
    return [found.call for found in _dependencies(route.dependant) if isinstance(found.call, JsonBody)]


def _dependencies(dependant: Dependant) -> Iterator[Dependant]:
    for found in dependant.dependencies:
        yield found
        yield from _dependencies(found)
