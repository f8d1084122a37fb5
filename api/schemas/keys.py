"""Answers of the list of keys (extension)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from api.schemas.fields import Moment, Record, sample
from workflows.domain.role import Role


class ApiKey(Record):
    """One key without its secret; times in Unix milliseconds."""

    model_config = sample(
        keyId="key_3f1c9a7b2d4e",
        role="node",
        owner="rack-7",
        state="live",
        actsForOthers=False,
        grants={"types": [2, 3], "maxGpus": 8},
        note=None,
        createdAt=1703123456789,
        expiresAt=None,
        revokedAt=None,
    )

    key_id: str
    role: Role
    owner: str
    state: Literal["live", "expired", "revoked"]
    acts_for_others: bool = Field(description="可代他人创建任务")
    grants: dict[str, Any] = Field(description="角色之内的限制；未列出的不受限制")
    note: str | None
    created_at: Moment
    expires_at: Moment | None
    revoked_at: Moment | None
