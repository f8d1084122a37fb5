"""The OpenAPI document as a contract: what is answered must be what is documented."""

from __future__ import annotations

import copy
import re
from functools import cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator

PREFIX = "/api/v2"


class Contract:
    """Checks answers against a document, and strictly: an object has no property that is not named there."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._components = copy.deepcopy(document["components"])
        for schema in self._components["schemas"].values():
            if "properties" in schema:
                schema.setdefault("additionalProperties", False)
        self._templates = sorted(document["paths"], key=lambda path: (path.count("{"), path))
        self._validator = cache(self._build)

    def check(self, response: httpx.Response) -> None:
        """Fails unless path, method, status and body are documented."""
        request = response.request
        path = next((one for one in self._templates if self._fits(one, request.url.path)), None)
        operation = self.document["paths"].get(path, {}).get(request.method.lower())
        if operation is None:  # a path or a method that does not exist
            assert response.status_code in (401, 404), (request.url.path, response.status_code)
            self.validate({"$ref": "#/components/schemas/Failure"}, response.json())
            return
        answer = operation["responses"].get(str(response.status_code))
        assert answer is not None, f"{request.method} {path} answers {response.status_code}, which is not documented"
        self.validate(self.schema_of(answer), response.json())
        headers = {name for name, one in self.resolved(answer).get("headers", {}).items() if one.get("required", True)}
        missing = headers - {"Link"} - {*map(_title, response.headers)}
        assert not missing, (path, missing)

    def resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        """The object that a `$ref` of the document names, or the node itself."""
        found: Any = node
        if "$ref" in node:
            found = self.document
            for name in node["$ref"].removeprefix("#/").split("/"):
                found = found[name]
        return found

    def schema_of(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The schema of a response or of a request body."""
        schema: dict[str, Any] = self.resolved(answer)["content"]["application/json"]["schema"]
        return schema

    def validate(self, schema: dict[str, Any], value: Any) -> None:
        """Fails unless the value fits the schema."""
        validator = self._validator(schema["$ref"]) if set(schema) == {"$ref"} else self._build_of(schema)
        validator.validate(value)

    def _build(self, reference: str) -> Draft202012Validator:
        return self._build_of({"$ref": reference})

    def _build_of(self, schema: dict[str, Any]) -> Draft202012Validator:
        return Draft202012Validator({**schema, "components": self._components})

    @staticmethod
    def _fits(template: str, path: str) -> bool:
        return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) is not None


def _title(name: str) -> str:
    return {"www-authenticate": "WWW-Authenticate"}.get(name.lower(), name.title())
