"""The specification's own samples and data models, for comparing; `specification.json` holds them as it prints them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_READ = json.loads((Path(__file__).parent / "specification.json").read_text("utf-8"))


@dataclass(frozen=True)
class Endpoint:
    """One of the 27."""

    title: str  # with its section
    method: str
    path: str  # below /api/v2
    parameters: list[str]
    answer: dict[str, Any]
    request: dict[str, Any] | None = None

    @property
    def section(self) -> str:
        return self.title.split()[0]

    @property
    def data(self) -> Any:
        return self.answer["data"]


ENDPOINTS = [Endpoint(**endpoint) for endpoint in _READ["endpoints"]]
SECTIONS = {endpoint.section: endpoint for endpoint in ENDPOINTS}
MODELS: dict[str, dict[str, Any]] = _READ["models"]
"""Model → field → type, in the specification's words."""
CODES: list[int] = _READ["codes"]

MORE = {
    "vastInsId",  # a field of GpuNodeInfo that the samples of §2.1 and §2.2 leave out
    "failureCount", "taskFailureCount", "version", "metadata",  # the same, and §2.3
    "draining", "drain",  # ours
}  # fmt: skip
MORE_OF_ALERT = {"resolvedAt"}  # ours
MORE_OF_TASK = {"endReason", "retryOf", "groupId", "expiresAt", "deadline", "purged"}  # ours


_MORE = {"hostname": MORE, "retryCount": MORE_OF_TASK, "acknowledgedBy": MORE_OF_ALERT}


def like(sample: Any, answer: Any, where: str = "data") -> None:
    """Fails unless `answer` has the sample's fields, all of them and no others, with values of the same types.

    What the sample or the answer shows as null, the data models and the OpenAPI document know better.
    """
    if sample is None or answer is None:
        return
    assert type(answer) is type(sample), (where, answer)
    if isinstance(sample, dict):
        more = next((names for mark, names in _MORE.items() if mark in sample), set())
        assert set(sample) <= set(answer) <= set(sample) | more, (where, sorted(answer))
        for name, value in sample.items():
            like(value, answer[name], f"{where}.{name}")
    if isinstance(sample, list):
        for member in answer:
            like(sample[0], member, f"{where}[]")
