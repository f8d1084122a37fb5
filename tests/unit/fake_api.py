"""An API that answers the commands as a test says, and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class Call:
    """A call that arrived."""

    method: str
    path: str
    body: Any
    headers: dict[str, str]


@dataclass
class FakeApi:
    """`answers` by method and path without query, each a list that is used up to its last one.

    One is (status, data) or (status, data, headers), or the text of a stream.
    """

    answers: dict[str, list[Any]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    url: str = ""

    def made(self, method: str, path: str) -> list[Call]:
        """The calls of one kind."""
        return [one for one in self.calls if one.method == method and one.path.split("?")[0] == path]

    def next(self, name: str) -> Any:
        found = self.answers.get(name)
        if found is None:
            return 404, "无此资源"
        return found.pop(0) if len(found) > 1 else found[0]


def sse(*messages: tuple[str, Any]) -> str:
    """Messages as server-sent events, each with an id."""
    return "".join(
        f"id: evt_{number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n" for number, (kind, data) in enumerate(messages)
    )


@contextmanager
def serving(api: FakeApi) -> Iterator[FakeApi]:
    """Serve it on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            content = self.rfile.read(length)
            path = self.path.removeprefix("/api/v2")
            headers = {name.lower(): value for name, value in self.headers.items()}
            api.calls.append(Call(self.command, path, json.loads(content) if content else None, headers))
            self._answer(api.next(f"{self.command} {path.split('?')[0]}"))

        def _answer(self, answer: Any) -> None:
            if isinstance(answer, str):
                status, body, more = 200, answer.encode(), {"Content-Type": "text/event-stream"}
            else:
                status, data, *rest = answer
                message = "操作成功" if status == 200 else data
                content = {"code": status, "message": message, "data": data if status == 200 else None}
                body, more = json.dumps(content).encode(), rest[0] if rest else {}
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _any

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
