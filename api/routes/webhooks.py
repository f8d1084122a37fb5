"""Webhooks: who is sent which events, and what became of each delivery (docs/webhooks.md)."""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from api.dependencies import Context, ContextOf
from api.http.body import JsonBody
from api.http.envelope import Envelope, ok, says
from api.http.errors import BadRequest
from api.http.paging import EXACT, INEXACT, PageOf
from api.middleware import rate_limit
from api.middleware.authentication import CallerOf
from api.middleware.rate_limit import CALLS_OF_BULK
from api.routes import access, receivers
from api.schemas.webhooks import (
    CreateWebhook,
    DeliveryInfo,
    DeliveryMade,
    NewSecret,
    ReplayDeliveries,
    Replayed,
    WebhookCreated,
    WebhookInfo,
    id_of,
)
from api.schemas.words import Line
from infra.db import clock
from infra.db.access.callers import Caller
from infra.db.transactions import change_webhook
from infra.db.webhooks import deliveries, subscriptions
from infra.db.webhooks.deliveries import MOST_COUNTED
from infra.db.webhooks.subscriptions import NewWebhook, Webhook
from infra.webhooks import signing
from workflows.domain.errors import DeliveryNotFound, WebhookNotFound
from workflows.domain.event import OF_USERS, EventType
from workflows.domain.role import Role

router = APIRouter(tags=["Webhook"])

WebhookId = Annotated[Line, Path(alias="webhookId", description="Webhook ID")]
DeliveryId = Annotated[Line, Path(alias="deliveryId", description="投递ID")]


@router.post(
    "/webhooks",
    response_model=Envelope[WebhookCreated],
    summary="扩展 创建Webhook",
    description="事件以 Standard Webhooks 1.0 签名并投递到 `url`。用户收到自己任务的事件，"
    "运维人员和管理员收到全部事件。`secret` 仅在此返回一次。每个所有者最多 20 个。",
)
async def create_webhook(
    context: ContextOf, caller: CallerOf, body: Annotated[CreateWebhook, Depends(JsonBody(CreateWebhook))]
) -> dict[str, Any]:
    if caller.role is Role.USER and not set(body.events) <= set(OF_USERS):
        raise BadRequest("events", "包含仅供运维人员和管理员订阅的事件")
    await receivers.check(context, caller, {"url": body.url})
    new = _new(caller, body.url, body.events, body.description)
    await context.database.run(lambda c: change_webhook.create(c, caller, new))
    return ok({"webhookId": new.webhook_id, "secret": new.secret})


def _new(caller: Caller, url: str | None, events: list[EventType], description: str | None = None) -> NewWebhook:
    return NewWebhook(
        webhook_id=f"wh_{secrets.token_hex(6)}",
        owner=caller.owner,
        lineage=caller.lineage,
        sees_all=url is not None and caller.role is not Role.USER,
        url=url,
        events=events,
        description=description,
        secret=signing.new_secret(),
    )


@router.get(
    "/webhooks",
    response_model=Envelope[list[WebhookInfo]],
    summary="扩展 获取Webhook列表",
    description="用户看到自己的，运维人员和管理员看到全部。不含 secret。",
)
async def list_webhooks(
    request: Request, response: Response, context: ContextOf, caller: CallerOf, page: PageOf
) -> dict[str, Any]:
    owner = access.owner_seen_by(caller)
    rows, total = await context.database.run(
        lambda c: subscriptions.page(c, owner, limit=page.limit, offset=page.offset)
    )
    response.headers.update(page.headers(request, total))
    return ok([WebhookInfo.of(row) for row in rows])


@router.post(
    "/webhooks/secret",
    response_model=Envelope[WebhookCreated],
    summary="扩展 生成任务Webhook密钥",
    description="生成调用者的密钥，用于签名其任务 `webhook` 的投递；之前的密钥在 24 小时内继续签名。"
    "`secret` 仅在此返回一次；以 `webhookId` 查看投递记录。",
)
async def secret_of_tasks(context: ContextOf, caller: CallerOf) -> dict[str, Any]:
    new = _new(caller, None, [EventType.TASK_ENDED])
    webhook_id = await context.database.run(lambda c: change_webhook.set_secret_of_tasks(c, caller, new))
    return ok({"webhookId": webhook_id, "secret": new.secret})


@router.delete(
    "/webhooks/{webhookId}",
    response_model=Envelope[str],
    summary="扩展 删除Webhook",
    description="尚未送达的事件不再投递。",
    responses=says("Webhook已删除"),
)
async def delete_webhook(context: ContextOf, caller: CallerOf, webhook_id: WebhookId) -> dict[str, Any]:
    await check_owner(context, caller, webhook_id)
    await context.database.run(lambda c: change_webhook.delete(c, caller, webhook_id))
    return ok("Webhook已删除")


@router.post(
    "/webhooks/{webhookId}/rotate",
    response_model=Envelope[NewSecret],
    summary="扩展 轮换Webhook密钥",
    description="返回新的密钥；24 小时内新旧密钥同时签名。",
)
async def rotate_webhook(context: ContextOf, caller: CallerOf, webhook_id: WebhookId) -> dict[str, Any]:
    await check_owner(context, caller, webhook_id)
    secret = signing.new_secret()
    await context.database.run(lambda c: change_webhook.rotate(c, caller, webhook_id, secret))
    return ok({"secret": secret})


@router.post(
    "/webhooks/{webhookId}/test",
    response_model=Envelope[DeliveryMade],
    summary="扩展 测试Webhook",
    description="投递一个类型为 `webhook.test` 的事件。",
)
async def test_webhook(context: ContextOf, caller: CallerOf, webhook_id: WebhookId) -> dict[str, Any]:
    await check_owner(context, caller, webhook_id)
    number = await context.database.run(lambda c: change_webhook.test(c, caller, webhook_id))
    return ok({"deliveryId": id_of(number)})


@router.get(
    "/webhooks/{webhookId}/deliveries",
    response_model=Envelope[list[DeliveryInfo]],
    summary="扩展 获取投递列表",
    description=f"按时间倒序。总数超过 {MOST_COUNTED} 时 `X-Total-Count` 为 {MOST_COUNTED}，"
    f"`X-Total-Count-Exact` 为 false，且最多翻至第 {MOST_COUNTED} 项，此后的页返回 400。",
    responses={200: {"headers": INEXACT}},
)
async def list_deliveries(
    request: Request, response: Response, context: ContextOf, caller: CallerOf, page: PageOf, webhook_id: WebhookId
) -> dict[str, Any]:
    await check_owner(context, caller, webhook_id)
    rows, total = await context.database.run(
        lambda c: deliveries.page(c, webhook_id, limit=page.limit, offset=page.offset)
    )
    if total > MOST_COUNTED:
        response.headers.update(page.headers_of_many(request, MOST_COUNTED))
    else:
        response.headers.update({EXACT: "true"} | page.headers(request, total))
    return ok([DeliveryInfo.of(row) for row in rows])


@router.post(
    "/webhooks/{webhookId}/replay",
    response_model=Envelope[Replayed],
    summary="扩展 重新投递一段时间的事件",
    description="重新投递发生在 `from` 到 `to` 之间（含两端的毫秒）的事件，事件 ID 和内容不变；一次最多 10000 条，"
    f"PENDING 的不变。每次请求按 {CALLS_OF_BULK} 次调用计入频率限制。",
)
async def replay_webhook(
    request: Request,
    context: ContextOf,
    caller: CallerOf,
    webhook_id: WebhookId,
    body: Annotated[ReplayDeliveries, Depends(JsonBody(ReplayDeliveries))],
) -> dict[str, Any]:
    await rate_limit.charge(request, CALLS_OF_BULK)
    await check_owner(context, caller, webhook_id)
    since, until = clock.moment(body.since), clock.moment(body.until)
    matched = await context.database.run(
        lambda c: change_webhook.replay_range(c, caller, webhook_id, since, until, failed_only=body.failed_only)
    )
    return ok({"matched": matched})


@router.post(
    "/deliveries/{deliveryId}/replay",
    response_model=Envelope[Replayed],
    summary="扩展 重新投递一个事件",
    description="事件 ID 和内容不变。",
)
async def replay_delivery(context: ContextOf, caller: CallerOf, delivery_id: DeliveryId) -> dict[str, Any]:
    found = re.fullmatch(r"dlv_([1-9][0-9]{0,17})", delivery_id)
    if found is None:
        raise DeliveryNotFound
    number = int(found[1])
    webhook_id = await context.database.single(lambda c: deliveries.webhook_of(c, number))
    try:
        await check_owner(context, caller, webhook_id or "")
    except WebhookNotFound:
        raise DeliveryNotFound from None
    matched = await context.database.run(lambda c: change_webhook.replay(c, caller, str(webhook_id), number))
    return ok({"matched": matched})


async def check_owner(context: Context, caller: Caller, webhook_id: str) -> Webhook:
    """The webhook, if the caller may see it: users see their own. Raises WebhookNotFound."""
    found = await context.database.single(lambda c: subscriptions.get(c, webhook_id))
    if found is None or access.owner_seen_by(caller) not in (None, found.owner):
        raise WebhookNotFound
    return found
