"""The orchestrator as the node sees it: the calls of the v2 API that a node makes."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from enum import Enum, auto
from urllib.parse import quote, urlsplit

import httpx

from workers.node.errors import Refused
from workers.node.records import ReportAddress

_TIMEOUT = httpx.Timeout(10, connect=3)  # seconds
# Idle connections are dropped before a server's usual 5 s: a call never meets one that is just being closed.
_LIMITS = httpx.Limits(max_connections=100, keepalive_expiry=2)


REGISTRATION, OUTDATED = "X-Registration", "outdated"
_LONGEST_WAIT = 60.0  # seconds of Retry-After that are honoured


class BeatAnswer(Enum):
    """The answer to a beat."""

    KNOWN = auto()
    UNKNOWN = auto()  # not registered (any more)
    OUTDATED = auto()  # another agent has registered with this gpuId since


class Orchestrator:
    """Raises httpx.HTTPError where there is no answer, or one that promises that a repetition may help."""

    def __init__(self, api: str, key: str, trust: ssl.SSLContext | None = None) -> None:
        """`api` is the base of the v2 API, http://host:port/api/v2; `trust` instead of the usual authorities."""
        self._api = api
        parts = urlsplit(api)
        self.address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"},
            timeout=_TIMEOUT,
            limits=_LIMITS,
            trust_env=False,
            verify=trust or True,
            follow_redirects=False,
        )

    async def register(self, registration: Mapping[str, object]) -> str | None:
        """§2.4: the registration's name for the beats, of an orchestrator that gives one.

        Raises Refused with the orchestrator's message on 400, 401 and 403.
        """
        answer = await self._http.post(f"{self._api}/gpus/register", json=registration)
        if answer.status_code in (400, 401, 403):
            raise Refused(f"the orchestrator refuses the registration ({answer.status_code}): {message_of(answer)}")
        _check(answer)
        name: str | None = answer.headers.get(REGISTRATION)
        return name

    async def beat(self, gpu_id: str, registration: str | None) -> BeatAnswer:
        """§2.5, for the registration of this name."""
        headers = {REGISTRATION: registration} if registration else {}
        answer = await self._http.post(f"{self._gpu(gpu_id)}/heartbeat", headers=headers)
        if answer.status_code == 404:
            return BeatAnswer.UNKNOWN
        if answer.status_code == 400 and answer.headers.get(REGISTRATION) == OUTDATED:
            return BeatAnswer.OUTDATED
        _check(answer)
        return BeatAnswer.KNOWN

    async def is_free(self, gpu_id: str) -> bool:
        """§2.2: whether no agent beats for this gpuId."""
        answer = await self._http.get(self._gpu(gpu_id))
        if answer.status_code == 404:
            return True
        _check(answer)
        try:
            return bool(answer.json()["data"]["status"] == "OFFLINE")
        except (ValueError, KeyError, TypeError):
            return False

    async def deregister(self, gpu_id: str) -> None:
        """§2.8."""
        _check(await self._http.delete(self._gpu(gpu_id)))

    async def report(
        self, address: ReportAddress, kind: str, body: Mapping[str, object], seconds: float | None = None
    ) -> httpx.Response:
        """§3.6 (kind `status`) and §3.7 (kind `result`): any answer, within `seconds`."""
        headers = {"X-Attempt-Token": address.token, "traceparent": address.traceparent}
        return await self._http.post(
            f"{self._origin}{address.path}/{kind}",
            json=body,
            headers={name: value for name, value in headers.items() if value},
            timeout=seconds or _TIMEOUT,
        )

    def report_path(self, webhook: str | None, task_id: str) -> str:
        """Where to report on a task: the webhook's path, if it lies at this orchestrator.

        Any other webhook is not trusted with the node's key: the usual path is taken instead.
        """
        usual = f"{urlsplit(self._api).path}/tasks/{quote(task_id, safe='')}"
        try:
            url = httpx.URL(webhook or "")
        except httpx.InvalidURL:
            return usual
        if _origin_of(url) != _origin_of(httpx.URL(self._api)):
            return usual
        return url.raw_path.decode("ascii").partition("?")[0].rstrip("/") or usual

    def _gpu(self, gpu_id: str) -> str:
        return f"{self._api}/gpus/{quote(gpu_id, safe='')}"

    async def close(self) -> None:
        """Drop the connections."""
        await self._http.aclose()


def message_of(answer: httpx.Response) -> str:
    """The `message` of the envelope, or the start of what came instead."""
    try:
        return str(answer.json()["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]


def retry_after(answer: httpx.Response) -> float:
    """Seconds that a busy server asks for; the header's other form, a date, is not used between us."""
    asked = answer.headers.get("Retry-After", "")
    return min(_LONGEST_WAIT, float(asked)) if answer.status_code in (429, 503) and asked.isdecimal() else 0.0


def _check(answer: httpx.Response) -> None:
    if not answer.is_success:
        raise httpx.HTTPStatusError(
            f"answered {answer.status_code}: {message_of(answer)}", request=answer.request, response=answer
        )


def _origin_of(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)
