"""The text of a message about alerts."""

from __future__ import annotations

import logging

import pytest

from infra.alert_messages import apprise, message
from infra.alert_messages.message import AlertChange, MessageKind
from workflows.domain.alert import AlertLevel

SECRET = "verysecrettoken"  # pragma: allowlist secret
ROOM = 32_768


def alert(number: int = 1, level: AlertLevel = AlertLevel.WARNING, *, is_over: bool = False) -> AlertChange:
    return AlertChange(f"alert_{number:03}", level, f"标题{number}", f"第 {number} 条\n内容", is_over)


def test_a_failed_message_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert not apprise.send(f"json://:{SECRET}@127.0.0.1:9/in", [alert()])
    assert SECRET not in caplog.text


def test_one_alert_is_its_own_title() -> None:
    found = message.about([alert(level=AlertLevel.CRITICAL)], ROOM)
    assert found.kind is MessageKind.CRITICAL
    assert (found.title, found.body) == ("[严重] 标题1", "[严重] 标题1: 第 1 条 内容 (alert_001)")


def test_many_make_one_message_the_worst_first() -> None:
    found = message.about([alert(1), alert(2, is_over=True), alert(3, AlertLevel.CRITICAL)], ROOM)
    assert found.title == "[严重] 标题3等 3 条告警"
    assert [line.split("]")[0] for line in found.body.splitlines()] == ["[严重", "[警告", "[已恢复"]
    found = message.about([alert(number) for number in range(1, 101)], ROOM)
    assert len(found.body.splitlines()) == message.SHOWN + 1
    assert found.body.splitlines()[-1] == "另有 80 条，请查看告警列表"


def test_the_end_of_all_is_good_news() -> None:
    assert message.about([alert(1, is_over=True), alert(2, is_over=True)], ROOM).kind is MessageKind.RESOLVED


@pytest.mark.parametrize("size", [2048, 19985, 160])
def test_a_message_of_a_large_outage_fits_into_bytes(size: int) -> None:
    many = [AlertChange(f"alert_{n:03}", AlertLevel.CRITICAL, "GPU故障告警", "原" * 400, False) for n in range(1, 101)]
    for number in (1, 2, 20, 21, 100):
        found = message.about(many[:number], size)
        lines = found.body.splitlines()
        assert len(f"{found.title}\r\n{found.body}".encode()) <= size
        assert lines[0].startswith("[严重] GPU故障告警: 原")
        if len(lines) > 1:
            shown = sum(line.startswith("[严重]") for line in lines)
            assert shown == number or lines[-1] == f"另有 {number - shown} 条，请查看告警列表"
