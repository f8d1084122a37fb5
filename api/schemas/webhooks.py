"""Webhooks and their deliveries."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from api.http.errors import refusal
from api.schemas.fields import DISTINCT, Long, Moment, RangeMs, Record, Request, sample
from api.schemas.receivers import Url
from api.schemas.words import ONE_LINE
from workflows.domain.event import EventType

MAX_DESCRIPTION = 500
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # nosec B105  # pragma: allowlist secret


def id_of(number: int | str) -> str:
    """`deliveryId` of a delivery's number, or the same id."""
    return f"dlv_{number}" if isinstance(number, int) else number


class CreateWebhook(Request):
    """A webhook to make."""

    model_config = sample(url="https://example.com/hooks/gpu", events=["task.ended"], description="生产环境")

    url: Url
    events: Annotated[list[Annotated[EventType, Field(strict=False)]], Field(min_length=1, max_length=64), DISTINCT] = (
        Field(description="订阅的事件类型；用户只能订阅任务和任务组的事件")
    )
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION), ONE_LINE] | None = None


class ReplayDeliveries(Request):
    """The time of the deliveries that are sent again."""

    model_config = sample(**{"from": 1703123456789, "to": 1703127056789, "failedOnly": True})

    since: RangeMs = Field(alias="from", description="起始时间，Unix 毫秒")
    until: RangeMs = Field(alias="to", description="截止时间，Unix 毫秒，不早于 from")
    failed_only: bool = Field(False, description="仅重新投递已放弃的（DEAD）")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.until < self.since:
            raise refusal("from 不能晚于 to")
        return self


class WebhookCreated(Record):
    """The secret is shown this once."""

    model_config = sample(webhookId="wh_6f1c0a9b2d3e", secret=SECRET)

    webhook_id: str
    secret: str


class NewSecret(Record):
    """A new secret, shown this once."""

    model_config = sample(secret=SECRET)

    secret: str


class WebhookInfo(Record):
    """A webhook as it is listed."""

    model_config = sample(
        webhookId="wh_6f1c0a9b2d3e",
        url="https://example.com/hooks/gpu",
        events=["task.ended"],
        description="生产环境",
        state="ACTIVE",
        disabledBecause=None,
        owner="user_001",
        createdAt=1703123456789,
    )

    webhook_id: str
    url: str
    events: list[str]
    description: str | None
    state: str = Field(description="ACTIVE 或 DISABLED")
    disabled_because: str | None = Field(description="410、KEY（所有者已没有有效密钥）或 TEMPORAL（由运维人员取消）")
    owner: str
    created_at: Moment


class DeliveryInfo(Record):
    """A delivery as it is listed."""

    model_config = sample(
        deliveryId="dlv_1001",
        eventId="evt_9c1185a5_2f1_1a",
        state="PENDING",
        tries=1,
        lastStatus=500,
        lastError=None,
        nextTryAt=1703123461789,
    )

    delivery_id: Annotated[str, BeforeValidator(id_of)]
    event_id: str
    state: str = Field(description="PENDING、DELIVERED 或 DEAD")
    tries: int
    last_status: int | None
    last_error: str | None = Field(description="没有得到应答时的原因，如 TIMEOUT、ADDRESS、NAME、TLS、CONNECTION")
    next_try_at: Moment | None


class DeliveryMade(Record):
    """A delivery that was made for a test."""

    model_config = sample(deliveryId="dlv_1002")

    delivery_id: str


class Replayed(Record):
    """How many deliveries are sent again."""

    model_config = sample(matched=3)

    matched: Long
