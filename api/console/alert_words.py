"""Alerts in the person's language. They are stored in the API's; here their kind, by its cause, gives the words."""

from __future__ import annotations

import re
from typing import NamedTuple

from api.console import system_words
from api.console.texts import N_


class Words(NamedTuple):
    """The title of a kind of alert, and what to do about it."""

    title: str
    advice: str


KINDS: dict[str, Words] = {
    "fault": Words(N_("A node is faulty"), N_("Look at its attempts; recover it once it is well.")),
    "offline": Words(N_("A node is offline"), N_("Its tasks wait again. It comes back with its next beat.")),
    "rest": Words(N_("A node gets no work for a while"), N_("It failed several times in a row. Look at its attempts.")),
    "unserved": Words(N_("A type of task has no node"), N_("Start a node that takes such tasks, or undrain one.")),
    "stuck-workflows": Words(N_("Workflows cannot go on"), N_("Roll the workers back, or deploy a fixed version.")),
    "miscounted": Words(N_("Kept counts were corrected"), N_("Nothing to do; report it if it happens again.")),
    "disk": Words(
        N_("A disk is nearly full"), N_("Free space before it is full: then no task can be created or completed.")
    ),
    "fleet-silent": Words(N_("Many nodes fell silent at once"), N_("Look at the network between nodes and API first.")),
    "notify": Words(
        N_("A message about alerts was given up"), N_("Look at the service, the token and each recipient of the URL.")
    ),
    "unhealthy": Words(N_("The system is unhealthy"), N_("See below which part is.")),
}


def of_cause(cause: str | None) -> Words | None:
    """The words of a kind of alert, or None if it is unknown here."""
    return KINDS.get((cause or "").partition(":")[0])


_DETAILS = {
    "fault": r"检测到故障: (.*)",
    "offline": r"()已离线$",
    "rest": r"：(.*)|$",
    "unserved": r"()",
    "stuck-workflows": r"^(\d+) 个.*例如 ([^；]*)",
    "miscounted": r"已按数据校正: (.*)",
    "disk": r"主机 (\S+) 上 (\S+) 所在磁盘仅剩 (\d+ MiB)",
    "fleet-silent": r"^(\d+) 个GPU节点中有 (\d+) 个.*摘除: (.*)",
    "notify": r"^(NOTIFY URL \d+ \(.*?\))",
    "unhealthy": r"()UNHEALTHY$",
}
"""Where a message holds its names and numbers. They need no translation."""


def detail_of(cause: str | None, message: str, language: str) -> str:
    """The line below an alert's title: in Chinese its message, otherwise the names and numbers in it."""
    pattern = _DETAILS.get((cause or "").partition(":")[0])
    if language == "zh" or pattern is None or (found := re.search(pattern, message, re.DOTALL)) is None:
        return message
    return " · ".join(system_words.said(language, one) or "" for one in found.groups() if one)


def type_of(cause: str | None) -> str | None:
    """The type of task that an alert is about."""
    kind, _, rest = (cause or "").partition(":")
    return rest if kind == "unserved" and rest.isdecimal() else None


def node_of(cause: str | None) -> str | None:
    """The node that an alert is about."""
    kind, _, rest = (cause or "").partition(":")
    if kind in ("fault", "offline"):
        return rest
    return rest.partition(":")[2] if kind == "rest" else None
