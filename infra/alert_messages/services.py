"""DingTalk and WeCom: they refuse a message with status 200 and an `errcode`, which Apprise does not read."""

# mypy: disable-error-code="no-untyped-call"
# Apprise's plugins have few types.

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import requests
from apprise import NotificationManager, NotifyBase
from apprise.plugins.dingtalk import NotifyDingTalk
from apprise.plugins.wecombot import NotifyWeComBot


class DingTalk(NotifyDingTalk):
    """Signs as DingTalk requires: Apprise's own signature is quoted twice, and does not match."""

    def send(self, body: str, title: str = "", *_: Any, **__: Any) -> bool:
        """Send. Returns whether it was accepted."""
        params = {}
        if self.secret:
            timestamp, signature = self.get_signature()
            params = {"timestamp": timestamp, "sign": unquote(signature)}
        content = f"{title}\r\n{body}" if title else body
        payload = _text(content) | {"at": {"atMobiles": self.targets, "isAtAll": False}}
        return _accepts(self, self.notify_url.format(token=self.token), payload, params)


class WeComBot(NotifyWeComBot):
    """The robot of a WeCom group."""

    def send(self, body: str, title: str = "", *_: Any, **__: Any) -> bool:
        """Send; Apprise has put the title into the body. Returns whether it was accepted."""
        return _accepts(self, self.api_url, _text(body), {})


def use() -> None:
    """Let Apprise take these instead of its own."""
    manager = NotificationManager()
    for service in (DingTalk, WeComBot):
        manager.add(service, force=True)


def _text(content: str) -> dict[str, Any]:
    return {"msgtype": "text", "text": {"content": content}}


def _accepts(service: NotifyBase, url: str, payload: dict[str, Any], params: dict[str, str]) -> bool:
    try:
        answer = requests.post(
            url,
            json=payload,
            params=params,
            verify=service.verify_certificate,
            timeout=service.request_timeout,
            allow_redirects=service.redirects,
        )
        found = answer.json()
    except requests.RequestException:  # its text holds the URL
        return False
    return answer.ok and isinstance(found, dict) and found.get("errcode") == 0
