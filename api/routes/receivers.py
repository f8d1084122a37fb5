"""Where webhooks may lead, checked while they are made."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from api.dependencies import Context
from api.http.errors import BadRequest, Forbidden
from infra.db.access.callers import Caller
from infra.db.tasks import repetitions
from infra.db.webhooks import subscriptions
from infra.json.off_loop import off_loop
from infra.webhooks.target import Target, parse
from workflows.domain.errors import ForbiddenReceiver, HttpsRequired

LOOKED_UP = 20
"""The most host names looked up for one request. All are checked again with each try of a delivery."""


async def check(context: Context, caller: Caller, urls: Mapping[str, str]) -> None:
    """Check the addresses of a caller's receivers, as far as their names are known now.

    `urls` are by the name of their field. Raises BadRequest, Forbidden.
    """
    targets = await off_loop.run(sum(map(len, urls.values())), lambda: _targets(urls))
    names = [(field, one) for field, one in targets.values() if one.ip is None]
    for field, one in targets.values():
        if one.ip is not None:
            await _check(context, caller, field, one)
    await asyncio.gather(*(_check(context, caller, field, one) for field, one in names[:LOOKED_UP]))


def _targets(urls: Mapping[str, str]) -> dict[tuple[str, str, int], tuple[str, Target]]:
    """The distinct receivers, each with the first field that names it."""
    targets: dict[tuple[str, str, int], tuple[str, Target]] = {}
    for field, url in urls.items():
        one = parse(url)
        targets.setdefault((one.scheme, one.host, one.port), (field, one))
    return targets


async def signer_of(context: Context, caller: Caller, urls: Mapping[str, str], key: str | None) -> str | None:
    """The webhook whose secret signs for a caller's tasks; None if there is no URL, or nothing new is created: what an
    earlier request with the same Idempotency-Key has created keeps its own.

    `urls` are by the name of their field. Raises BadRequest, Forbidden.
    """
    if not urls:
        return None
    try:
        await check(context, caller, urls)
        return await _secret_of(context, caller, next(iter(urls)))
    except (BadRequest, Forbidden):
        if not await context.database.single(lambda c: repetitions.is_known(c, caller.lineage, key)):
            raise
        return None


async def _secret_of(context: Context, caller: Caller, field: str) -> str:
    found = await context.database.single(lambda c: subscriptions.of_tasks(c, caller.owner))
    if found is None:
        raise BadRequest(field, "需要先通过 POST /webhooks/secret 生成密钥")
    if found.state != "ACTIVE":
        raise BadRequest(field, f"密钥已停用（{found.disabled_because}），需要先通过 POST /webhooks/secret 重新生成")
    return found.webhook_id


async def _check(context: Context, caller: Caller, field: str, target: Target) -> None:
    try:
        with suppress(OSError):  # a name that is not known now is looked up at each try
            await context.receivers.check(caller.owner, target)
    except HttpsRequired:
        raise BadRequest(field, "必须是 https 地址") from None
    except ForbiddenReceiver:
        raise Forbidden(f"权限不足: {field} 指向不允许的地址") from None
