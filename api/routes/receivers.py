"""Where webhooks may lead, checked while they are made."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from api.dependencies import Context
from api.http.errors import BadRequest
from infra.db.ops.callers import Caller
from infra.db.webhooks import subscriptions
from infra.webhooks.target import Target, parse

LOOKED_UP = 20
"""Names of one request that are looked up; others are checked at each try, as these are once more."""


async def check(context: Context, urls: Iterable[str]) -> None:
    """Check the addresses of receivers, as far as their names are known now. Raises ForbiddenReceiver."""
    targets = {(one.scheme, one.host, one.port): one for one in map(parse, urls)}.values()
    names = [one for one in targets if one.ip is None]
    for one in targets:
        if one.ip is not None:
            await context.receivers.check(one)
    await asyncio.gather(*(_check_name(context, one) for one in names[:LOOKED_UP]))


async def signer_of(context: Context, caller: Caller, urls: Iterable[str | None]) -> str | None:
    """The webhook whose secret signs for a caller's tasks; None if none of them has a URL.

    Raises BadRequest, ForbiddenReceiver.
    """
    wanted = [url for url in urls if url]
    if not wanted:
        return None
    await check(context, wanted)
    found = await context.database.single(lambda c: subscriptions.of_tasks(c, caller.owner))
    if found is None:
        raise BadRequest("webhook", "需要先通过 POST /webhooks/secret 生成密钥")
    if found.state != "ACTIVE":
        raise BadRequest(
            "webhook", f"密钥已停用（{found.disabled_because}），需要先通过 POST /webhooks/secret 重新生成"
        )
    return found.webhook_id


async def _check_name(context: Context, target: Target) -> None:
    with suppress(OSError):  # a name that is not known now is looked up at each try
        await context.receivers.check(target)
