"""Apprise, loaded when it is first needed: that takes a second and 37 MiB, and most programs never send a message."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from infra.notify.message import Kind, Message

if TYPE_CHECKING:
    import apprise

_TALKATIVE = ("apprise", "requests", "requests_oauthlib", "urllib3")
"""Loggers that may show a URL, with the tokens in it."""


def understands(url: str) -> bool:
    """Whether Apprise knows the service and finds what the service needs."""
    return _instance(url) is not None


def send(url: str, message: Message) -> bool:
    """Send a message. Returns whether the service has taken it. It blocks, at most for some of Apprise's 4 s limits."""
    import apprise

    service = _instance(url)
    kinds = {
        Kind.CRITICAL: apprise.NotifyType.FAILURE,
        Kind.WARNING: apprise.NotifyType.WARNING,
        Kind.INFO: apprise.NotifyType.INFO,
        Kind.RESOLVED: apprise.NotifyType.SUCCESS,
    }
    if service is None:
        return False
    found = apprise.Apprise(asset=_asset())
    found.add(service)
    sent = found.notify(
        body=message.body, title=message.title, notify_type=kinds[message.kind], body_format=apprise.NotifyFormat.TEXT
    )
    return bool(sent)


def _instance(url: str) -> apprise.NotifyBase | None:
    import apprise

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    found = apprise.Apprise.instantiate(url, asset=_asset(), suppress_exceptions=True)
    return found if isinstance(found, apprise.NotifyBase) else None


def _asset() -> apprise.AppriseAsset:
    import apprise

    return apprise.AppriseAsset(app_id="gpu-orchestrator", app_desc="gpu-orchestrator", app_url="", secure_logging=True)
