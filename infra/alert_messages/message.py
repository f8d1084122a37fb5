"""The text of a message about alerts: one for all that has happened within some seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from workflows.domain.alert import AlertLevel

SHOWN = 20
"""Alerts that a message describes, at most; of the others it says how many there are."""
LONGEST = 300
"""Characters of an alert's text."""


class MessageKind(StrEnum):
    """The level of a message's worst alert; RESOLVED if all of its alerts are over."""

    CRITICAL = "CRITICAL"
    WARNING = "WARNING"
    INFO = "INFO"
    RESOLVED = "RESOLVED"


@dataclass(frozen=True)
class AlertChange:
    """An alert that was raised, or is over, as it was last."""

    alert_id: str
    level: AlertLevel
    title: str
    text: str
    is_over: bool

    @property
    def kind(self) -> MessageKind:
        return MessageKind.RESOLVED if self.is_over else MessageKind(self.level)


@dataclass(frozen=True)
class AlertMessage:
    """A message to send."""

    kind: MessageKind
    title: str
    body: str


_WORDS = {
    MessageKind.CRITICAL: "严重",
    MessageKind.WARNING: "警告",
    MessageKind.INFO: "提示",
    MessageKind.RESOLVED: "已恢复",
}


def about(alerts: Sequence[AlertChange], size: int) -> AlertMessage:
    """The message about these, the worst first: title and body have at most `size` bytes."""
    order = list(MessageKind)
    ordered = sorted(alerts, key=lambda one: order.index(one.kind))
    first = ordered[0]
    more = f"等 {len(ordered)} 条告警" if len(ordered) > 1 else ""
    title = f"[{_WORDS[first.kind]}] {first.title}{more}"
    return AlertMessage(first.kind, title, _body([_line(one) for one in ordered], size - _size(f"{title}\r\n")))


def _line(one: AlertChange) -> str:
    text = " ".join(one.text.split())
    return f"[{_WORDS[one.kind]}] {one.title}: {text[:LONGEST]} ({one.alert_id})"


def _body(lines: list[str], size: int) -> str:
    """The first lines for which there is room, and the number of the others."""
    for shown in range(min(len(lines), SHOWN), 0, -1):
        others = len(lines) - shown
        body = "\n".join([*lines[:shown], *([f"另有 {others} 条，请查看告警列表"] if others else [])])
        if _size(body) <= size:
            return body
    return lines[0].encode()[: max(size, 0)].decode(errors="ignore")


def _size(text: str) -> int:
    return len(text.encode())
