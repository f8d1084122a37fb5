"""The parts that both clients share: the address of the API, and how a call looks to httpx."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from gpu_orchestrator_client.commands import Send
from gpu_orchestrator_client.naming import APP, BASE, KEY, URL, USER, is_local, key_of, url_of
from gpu_orchestrator_client.new_task import Body, NewTask

CONNECT_S = 5.0


@dataclass(frozen=True)
class Options:
    """Where the API is, whose key is used, and the app and user of tasks that name none."""

    url: str
    key: str = field(repr=False)
    app: str
    user_id: str

    @classmethod
    def of(cls, url: str | None, key: str | None, app: str | None, user_id: str | None) -> Self:
        """Options from the arguments, otherwise from the environment. Raises ValueError without a usable URL or key."""
        return cls(
            _checked(url_of, url, URL),
            _checked(key_of, key, KEY),
            app or os.environ.get(APP) or "python",
            user_id or os.environ.get(USER) or "python",
        )

    def http(self) -> dict[str, Any]:
        """The arguments of an httpx client. What goes to this machine goes to no proxy, which would read the key.

        Connections have no limit: calls and streams that wait for the end of a task would use it up.
        """
        return {
            "base_url": f"{self.url}{BASE}",
            "headers": {"Authorization": f"Bearer {self.key}"},
            "trust_env": not is_local(self.url),
            "limits": httpx.Limits(max_connections=None),
        }

    def request(self, send: Send) -> dict[str, Any]:
        """The arguments of a request."""
        return {
            "method": send.method,
            "url": send.path,
            "params": dict(send.params),
            "headers": dict(send.headers),
            "timeout": httpx.Timeout(send.timeout_s, connect=CONNECT_S),
            **({} if send.json is None else {"json": send.json}),
        }

    def body(self, task: NewTask) -> Body:
        """The body of a new task."""
        return task.body(app=self.app, user_id=self.user_id)


def _checked(check: Callable[[str], str], given: str | None, name: str) -> str:
    try:
        return check(given or os.environ.get(name, ""))
    except ValueError as error:
        raise ValueError(f"{error}: give it to the client, or set {name}") from None
