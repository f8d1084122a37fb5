"""Services that refuse with status 200: a message counts as sent only if it was accepted."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from infra.alert_messages import apprise, services
from infra.alert_messages.message import AlertChange
from workflows.domain.alert import AlertLevel

ALERTS = [AlertChange(f"alert_{n:03}", AlertLevel.CRITICAL, "标题", "内容" * 50, False) for n in range(1, 61)]
URLS = ["dingtalk://token/", "wecombot://key/"]


class Service(ThreadingHTTPServer):
    """Answers each message with `status` and `answer`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.answer = b'{"errcode": 0, "errmsg": "ok"}'
        self.got: list[tuple[str, bytes]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        self.server.got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with Service() as running:
        here = f"http://127.0.0.1:{running.server_port}/"
        monkeypatch.setattr(services.DingTalk, "notify_url", here + "?token={token}")
        monkeypatch.setattr(services.WeComBot, "notify_url", here + "?key={key}")
        serving = threading.Thread(target=running.serve_forever, args=(0.01,))
        serving.start()
        yield running
        running.shutdown()
        serving.join()


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    ("status", "answer", "is_accepted"),
    [
        (200, b'{"errcode": 0, "errmsg": "ok"}', True),
        (200, b'{"errcode": 310000, "errmsg": "keywords not in content"}', False),
        (200, b'{"errcode": 45009}', False),
        (200, b"{}", False),
        (200, b"[]", False),
        (200, b"<html>", False),
        (500, b'{"errcode": 0}', False),
    ],
)
def test_what_is_refused_with_200_is_not_sent(
    service: Service, url: str, status: int, answer: bytes, is_accepted: bool
) -> None:
    service.status, service.answer = status, answer
    assert apprise.send(url, ALERTS) is is_accepted
    assert len(service.got) == 1


@pytest.mark.parametrize(("url", "most"), [(URLS[0], 20_000), (URLS[1], 2048)])
def test_the_title_is_in_the_text_and_all_of_it_within_the_limit(service: Service, url: str, most: int) -> None:
    assert apprise.send(url, ALERTS)
    ((_, body),) = service.got
    content = json.loads(body)["text"]["content"]
    assert content.startswith("[严重] 标题等 60 条告警\r\n[严重] 标题: 内容")
    assert content.endswith("条，请查看告警列表")
    assert len(content.encode()) <= most


def test_dingtalk_gets_the_signature_quoted_once(service: Service) -> None:
    assert apprise.send("dingtalk://secret@token/", ALERTS)
    ((path, _),) = service.got
    (sign,) = parse_qs(urlsplit(path).query)["sign"]
    assert len(sign) == 44
    assert sign.endswith("=")
