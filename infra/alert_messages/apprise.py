"""Apprise, loaded when it is first needed: that takes a second and 37 MiB, and most programs never send a message."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from infra.alert_messages import message
from infra.alert_messages.message import AlertChange, MessageKind

if TYPE_CHECKING:
    import apprise

_TALKATIVE = ("apprise", "requests", "requests_oauthlib", "urllib3")
"""Loggers that may show a URL, with the tokens in it."""


def understands(url: str) -> bool:
    """Whether Apprise knows the service and finds what the service needs."""
    return _instance(url) is not None


def send(url: str, alerts: Sequence[AlertChange]) -> bool:
    """Send a message about these. Returns whether each of the URL's targets has accepted it.

    It blocks: each target may take a connection and some answers, 4 s each, or 15 s each of a mail server.
    """
    import apprise

    service = _instance(url)
    kinds = {
        MessageKind.CRITICAL: apprise.NotifyType.FAILURE,
        MessageKind.WARNING: apprise.NotifyType.WARNING,
        MessageKind.INFO: apprise.NotifyType.INFO,
        MessageKind.RESOLVED: apprise.NotifyType.SUCCESS,
    }
    if service is None:
        return False
    found = apprise.Apprise(asset=_asset())
    found.add(service)
    text = message.about(alerts, service.body_maxlen)
    sent = found.notify(
        body=text.body, title=text.title, notify_type=kinds[text.kind], body_format=apprise.NotifyFormat.TEXT
    )
    return bool(sent)


def _instance(url: str) -> apprise.NotifyBase | None:
    import apprise

    _prepare()
    found = apprise.Apprise.instantiate(url, asset=_asset(), suppress_exceptions=True)
    return found if isinstance(found, apprise.NotifyBase) else None


@cache
def _prepare() -> None:
    from infra.alert_messages import services

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    services.use()


def _asset() -> apprise.AppriseAsset:
    import apprise

    return apprise.AppriseAsset(app_id="gpu-orchestrator", app_desc="gpu-orchestrator", app_url="", secure_logging=True)
