"""The roles of keys (INVARIANTS, "Who may call what"); the endpoints of each role are in `api.routes.roles`."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """The role of a key."""

    ADMIN = "admin"
    OPERATOR = "operator"
    USER = "user"
    NODE = "node"
