"""Where alerts are sent, and the text of a message."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from infra.environment import destinations
from infra.environment.bad_settings import BadSettings
from infra.notify import apprise, message
from infra.notify.message import Notice, NoticeKind
from infra.settings import Settings, checked
from workflows.domain.alert import AlertLevel

SECRET = "verysecrettoken"  # pragma: allowlist secret
ROOM = 32_768
ONE = f"json://:{SECRET}@127.0.0.1:9/in"


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("", []),
        (ONE, ["WARNING"]),
        (f"CRITICAL {ONE}", ["CRITICAL"]),
        (f"info {ONE} {ONE} CRITICAL {ONE}", ["INFO", "INFO", "CRITICAL"]),
        (f"WARNING+ {ONE} , CRITICAL+ {ONE},", ["WARNING", "CRITICAL"]),
        ("mailtos://user:pass@example.org?to=a@example.org,b@example.org", ["WARNING"]),  # pragma: allowlist secret
    ],
)
def test_a_level_holds_for_the_urls_behind_it(text: str, levels: list[str]) -> None:
    found = destinations.parse(text)
    assert [one.level for one in found] == levels
    assert destinations.parse(destinations.text(found)) == found


@pytest.mark.parametrize("value", [f"nonsense://{SECRET}", f"URGENT {ONE}", SECRET, f"{ONE} dingtalk://"])
def test_what_cannot_be_sent_to_is_refused_without_a_word_of_it(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ORCHESTRATOR_NOTIFY", value)
    with pytest.raises(BadSettings) as refused:
        checked(Settings)
    assert "ORCHESTRATOR_NOTIFY" in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_destination_shows_no_secret() -> None:
    settings = Settings(notify=f"CRITICAL {ONE}")
    assert SECRET not in repr(settings)
    assert str(settings.notify[0]) == "NOTIFY URL 1 (json://…)"
    assert SECRET not in settings.notify[0].digest


def test_a_failed_message_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert not apprise.send(ONE, [notice()])
    assert SECRET not in caplog.text


def test_apprise_is_loaded_only_for_a_url() -> None:
    code = "import sys, workers.leader.leader; print('apprise' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


def notice(number: int = 1, level: AlertLevel = AlertLevel.WARNING, *, is_over: bool = False) -> Notice:
    return Notice(f"alert_{number:03}", level, f"标题{number}", f"第 {number} 条\n内容", is_over)


def test_one_alert_is_its_own_title() -> None:
    found = message.about([notice(level=AlertLevel.CRITICAL)], ROOM)
    assert found.kind is NoticeKind.CRITICAL
    assert (found.title, found.body) == ("[严重] 标题1", "[严重] 标题1: 第 1 条 内容 (alert_001)")


def test_many_make_one_message_the_worst_first() -> None:
    found = message.about([notice(1), notice(2, is_over=True), notice(3, AlertLevel.CRITICAL)], ROOM)
    assert found.title == "[严重] 标题3等 3 条告警"
    assert [line.split("]")[0] for line in found.body.splitlines()] == ["[严重", "[警告", "[已恢复"]
    found = message.about([notice(number) for number in range(1, 101)], ROOM)
    assert len(found.body.splitlines()) == message.SHOWN + 1
    assert found.body.splitlines()[-1] == "另有 80 条，请查看告警列表"


def test_the_end_of_all_is_good_news() -> None:
    assert message.about([notice(1, is_over=True), notice(2, is_over=True)], ROOM).kind is NoticeKind.RESOLVED


@pytest.mark.parametrize("size", [2048, 19985, 160])
def test_a_message_of_a_large_outage_fits_into_bytes(size: int) -> None:
    many = [Notice(f"alert_{n:03}", AlertLevel.CRITICAL, "GPU故障告警", "原" * 400, False) for n in range(1, 101)]
    for number in (1, 2, 20, 21, 100):
        found = message.about(many[:number], size)
        lines = found.body.splitlines()
        assert len(f"{found.title}\r\n{found.body}".encode()) <= size
        assert lines[0].startswith("[严重] GPU故障告警: 原")
        if len(lines) > 1:
            shown = sum(line.startswith("[严重]") for line in lines)
            assert shown == number or lines[-1] == f"另有 {number - shown} 条，请查看告警列表"
