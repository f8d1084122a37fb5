"""Answers of the audit log (extension)."""

from __future__ import annotations

from pydantic import Field

from api.schemas.fields import Long, Moment, Record, sample
from infra.db.access.audit import Action, Outcome
from workflows.domain.role import Role


class AuditEntry(Record):
    """One entry; `at` in Unix milliseconds."""

    model_config = sample(
        id=42,
        at=1703123456789,
        keyId="key_3f1c9a7b2d4e",
        owner="ops",
        role="operator",
        action="gpu.fault",
        subject="gpu_001",
        detail="手动标记",
        outcome="DONE",
    )

    id: Long
    at: Moment
    key_id: str | None = Field(
        description="缺省为空：命令行或系统自身的操作；在 Temporal 中发送信号的操作为 temporal:{runId}/{序号}"
    )
    owner: str
    role: Role | None
    action: Action
    subject: str
    detail: str
    outcome: Outcome
