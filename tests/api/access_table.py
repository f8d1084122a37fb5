"""INVARIANTS, "Who may call what": sections of the specification, and the roles that may call each."""

from __future__ import annotations

from tests.api.specification import SECTIONS

ROLES = ("admin", "operator", "user", "node")
EVENTS, AUDIT, KEYS = (
    "GET /tasks/{taskId}/events",
    "GET /audit",
    "GET /keys",
)  # extensions; the timeline is a read of a task
DRAIN, UNDRAIN = "POST /gpus/{gpuId}/drain", "POST /gpus/{gpuId}/undrain"

_TABLE = [
    # monitoring reads, alerts, cluster, GPU reads: operator, admin (users: health; a node: its own GPU)
    ("1.1 1.4 1.5 4.1 4.3 5.1 5.2", "operator admin"),
    ("1.2 1.3", "operator admin user"),
    ("2.1 2.2 2.3", "operator admin node"),
    # monitoring/check, health/check, acknowledge, recover: operator, admin
    ("1.6 1.7 4.2 2.7", "operator admin"),
    # fault: operator, admin, the node itself
    ("2.6", "operator admin node"),
    # deregister: admin, the node itself
    ("2.8", "admin node"),
    # register, heartbeat: a node key, admin
    ("2.4 2.5", "admin node"),
    # task reads: the owner, operator, admin
    ("3.1 3.2 3.3 3.4", "user operator admin"),
    # create task: user, admin
    ("3.5", "user admin"),
    # task status, task result: the node that holds the open attempt, admin
    ("3.6 3.7", "node admin"),
]
MAY: dict[str, set[str]] = {
    f"{SECTIONS[section].method} {SECTIONS[section].path}": set(roles.split())
    for sections, roles in _TABLE
    for section in sections.split()
} | {EVENTS: {"user", "operator", "admin"}, AUDIT: {"admin"}, KEYS: {"admin"}}
MAY |= {DRAIN: {"operator", "admin", "node"}, UNDRAIN: {"operator", "admin"}}
_STEERING = ("POST /tasks/{taskId}/cancel", "POST /tasks/{taskId}/retry", "PATCH /tasks/{taskId}")
MAY |= {
    call: {"user", "operator", "admin"} for call in (*_STEERING, "GET /groups/{groupId}")
}  # the owner, operator, admin
MAY["POST /tasks/batch"] = {"user", "admin"}  # as POST /tasks
_BULK = ("POST /tasks/cancel", "POST /tasks/retry", "GET /operations/{operationId}")
MAY |= {call: {"user", "operator", "admin"} for call in _BULK}  # the owner (lists are filtered), operator, admin
MAY |= {call: {"user", "operator", "admin"} for call in ("GET /events", "GET /stream", "GET /tasks/{taskId}/stream")}
_WEBHOOKS = (
    "POST /webhooks", "GET /webhooks", "POST /webhooks/secret", "DELETE /webhooks/{webhookId}",
    "POST /webhooks/{webhookId}/rotate", "POST /webhooks/{webhookId}/test", "GET /webhooks/{webhookId}/deliveries",
    "POST /webhooks/{webhookId}/replay", "POST /deliveries/{deliveryId}/replay",
)  # fmt: skip
MAY |= {call: {"user", "operator", "admin"} for call in _WEBHOOKS}  # a user their own
CASES = [(endpoint, role) for endpoint in MAY for role in ROLES]
