"""Hooks for what schemathesis can't know of our API: the envelope of every answer, and where a node may be."""

from __future__ import annotations

import re
from typing import Any

import schemathesis
from schemathesis.generation.meta import CoverageScenario, coverage_scenario
from schemathesis.specs.openapi import stateful

from api.schemas.receivers import PATTERN
from infra.webhooks.target import MAX_URL
from workflows.domain.limits import LAST_MS, MAX_WAIT_S

PLACE = {"ip": "127.0.0.2", "port": 9}
"""Allowed, and nobody listens: what is dispatched there fails at once, and nothing else on the machine is called."""
RECEIVER = "http://127.0.0.2:9/"
"""Allowed for a webhook, and nobody listens there either."""
TO_COME_MS = 4102444800000

# A chain of calls begins where the id is made or listed. By itself schemathesis would begin none at POST /tasks or
# POST /gpus/register: no endpoint makes the users and nodes that their bodies name, so it takes them for bad starts.
stateful.is_likely_root_transition = lambda operation, *_: not operation.path_parameters


@schemathesis.hook
def map_body(_: schemathesis.HookContext, body: Any) -> Any:
    """Registrations whose address is well-formed come from an allowed one; a well-formed deadline is to come.

    A well-formed `maxWait` is left out: for the types of no node it is answered 429, and no chain would begin there.
    So is a `webhook`, which needs a secret first.
    """
    if not isinstance(body, dict):
        return body
    if _is_ip(body.get("ip")) and _is_port(body.get("port")):
        body = body | PLACE
    if _is_url(body.get("url")):
        body = body | {"url": RECEIVER}
    if _is_url(body.get("webhook")):
        body = {name: value for name, value in body.items() if name != "webhook"}
    if _is_within(body.get("deadline"), 1, LAST_MS):
        body = body | {"deadline": max(body["deadline"], TO_COME_MS)}
    if _is_within(body.get("maxWait"), 0, MAX_WAIT_S):
        body = {name: value for name, value in body.items() if name != "maxWait"}
    return body


def _is_within(value: Any, first: int, last: int) -> bool:
    return type(value) is int and first <= value <= last  # what is refused must stay so


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_URL and re.match(PATTERN, value) is not None


def _is_ip(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 45  # the schema's bounds; what breaks them must stay broken


def _is_port(value: Any) -> bool:
    return _is_within(value, 1, 65535)  # what is no port must stay none: its refusal is checked


@schemathesis.check
def envelope(_: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]) -> None:
    """The HTTP status is `code`, a failure has no data, and an answer that asks to come back later says when."""
    if response.request.method == "HEAD":
        return
    body = response.json()
    assert list(body) == ["code", "message", "data"], body
    assert body["code"] == response.status_code, body
    assert body["code"] == 200 or body["data"] is None, body
    assert body["code"] not in (429, 503) or response.headers["retry-after"], body
    if coverage_scenario(case) is CoverageScenario.UNSPECIFIED_HTTP_METHOD:
        of_a_name = response.request.method == "PATCH" and str(response.request.url).endswith(
            "/tasks/batch"
        )  # a task's
        expected = {200} if response.request.method == "OPTIONS" else {404, 400} if of_a_name else {404}
        assert body["code"] in expected, f"a wrong method is answered {body['code']}"
