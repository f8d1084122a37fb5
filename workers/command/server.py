"""API calls through the standard library, which imports quickly. The client's core decides what is repeated."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from http.client import HTTPException, HTTPResponse, InvalidURL
from typing import Any, TypeVar
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import HTTPErrorProcessor, HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from gpu_orchestrator_client.calls import call, error_of
from gpu_orchestrator_client.commands import Heard, Lost, Reply, Send, run
from gpu_orchestrator_client.errors import BadAnswer, Unreachable
from gpu_orchestrator_client.naming import BASE
from gpu_orchestrator_client.streams import Stream, check_answer
from workers.command.profile import Profile

T = TypeVar("T")
CHUNK = 64 * 1024
AGAIN_S = 10.0
"""Seconds between two words about the same trouble."""


class _AsItIs(HTTPErrorProcessor):
    """Returns an answer of any status, and follows no redirect: the key would be sent there too."""

    def http_response(self, request: Request, response: Any) -> Any:
        return response

    https_response = http_response


def _opener(*, needs_tls: bool, is_local: bool) -> OpenerDirector:
    """Opens http, and https where it has to (certificates take a while to read), through the environment's proxies.

    What goes to this machine goes to no proxy, which would read the key.
    """
    made = OpenerDirector()
    for one in (
        ProxyHandler({} if is_local else None),
        HTTPHandler(),
        *([HTTPSHandler()] if needs_tls else []),
        _AsItIs(),
    ):
        made.add_handler(one)
    return made


class Server:
    """The API, with a profile's key. Calls are repeated for a minute while it is away or busy, and `say` says so.

    `once_within_s`: each call is made once, and given up after that. They raise the errors of
    `gpu_orchestrator_client.errors`.
    """

    def __init__(self, profile: Profile, say: Callable[[str], None], *, once_within_s: float | None = None) -> None:
        self.url = profile.url
        self._say = say
        self._once_within_s = once_within_s
        self._headers = {"Authorization": f"Bearer {profile.key}", "User-Agent": "gpu-orchestrator"}
        self._open = _opener(needs_tls=profile.url.startswith("https"), is_local=profile.is_local).open
        self._said: tuple[str, float] = ("", 0.0)

    def get(self, path: str) -> Any:
        """The `data` of a GET."""
        return self.read(path, {})[0]

    def read(self, path: str, params: Mapping[str, Any]) -> tuple[Any, Mapping[str, str]]:
        """The `data` of a GET, and its headers."""
        return self._ask(Send("GET", path, params))

    def post(self, path: str, body: Any = None, *, key: str | None = None, refusals: Collection[int] = ()) -> Any:
        """The `data` of a POST that may be repeated, or has a key for that. `refusals` are no reason to repeat it."""
        headers = {"Idempotency-Key": key} if key else {}
        return self._ask(Send("POST", path, json=body, headers=headers, refusals=frozenset(refusals)))[0]

    def _ask(self, send: Send) -> tuple[Any, Mapping[str, str]]:
        if self._once_within_s is None:
            steps = call(send)
        else:
            steps = call(replace(send, timeout_s=self._once_within_s), 0, least_tries=1)
        reply = run(steps, self._send, self._wait)
        self._answered()
        try:
            return json.loads(reply.body)["data"], reply.headers
        except (ValueError, KeyError, TypeError):
            raise BadAnswer(f"{self.url} answers, but not as the API does") from None

    def follow(self, stream: Stream[T]) -> Iterator[T]:
        """The messages of a stream, over as many connections as it takes."""
        while not stream.ended:
            heard: Heard = None
            began = time.monotonic()
            try:
                with self._opened(stream.request()) as answer:
                    if answer.status == 200:
                        check_answer(Reply(200, _headers(answer), b""))
                        self._answered()
                        yield from _fed(stream, answer)
                    else:
                        heard = _reply(answer)
            except (OSError, HTTPException) as error:
                heard = _lost(error, time.monotonic() - began)
            if not stream.ended:
                self._wait(heard, stream.pause_s(heard))

    def _send(self, send: Send) -> Reply | Lost:
        began = time.monotonic()
        try:
            with self._opened(send) as answer:
                return _reply(answer, time.monotonic() - began)
        except (OSError, HTTPException) as error:
            return _lost(error, time.monotonic() - began)

    def _opened(self, send: Send) -> HTTPResponse:
        url = f"{self.url}{BASE}{send.path}" + (f"?{urlencode(send.params)}" if send.params else "")
        body = None if send.json is None else json.dumps(send.json, ensure_ascii=False).encode()
        headers = {**self._headers, **send.headers, **({} if body is None else {"Content-Type": "application/json"})}
        request = Request(url, body, headers, method=send.method)
        return self._open(request, timeout=send.timeout_s)  # type: ignore[no-any-return]

    def _wait(self, heard: Heard, seconds: float) -> None:
        if heard is not None:
            why = str(error_of(heard))
            said, at = self._said
            if why != said or time.monotonic() - at > AGAIN_S:
                self._say(f"{self.url}: {why}; trying again" + (f" in {seconds:.0f} s" if seconds > 1 else ""))
                self._said = (why, time.monotonic())
        time.sleep(seconds)

    def _answered(self) -> None:
        if self._said[0]:
            self._say(f"{self.url} answers again")
            self._said = ("", 0.0)


def _fed(stream: Stream[T], answer: HTTPResponse) -> Iterator[T]:
    while not stream.ended and (chunk := answer.read1(CHUNK)):
        yield from stream.feed(chunk)


def _headers(answer: HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


def _reply(answer: HTTPResponse, took_s: float = 0.0) -> Reply:
    return Reply(answer.status, _headers(answer), answer.read(), took_s)


def _lost(error: OSError | HTTPException, took_s: float) -> Lost:
    """Raises Unreachable if trying again is no use."""
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        raise Unreachable(f"the server's certificate is not trusted: {cause.verify_message}") from None
    if isinstance(cause, InvalidURL):
        raise Unreachable(str(cause)) from None
    return Lost(cause, took_s)
