"""Where alerts are sent (NOTIFY)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from infra.environment import destinations
from infra.environment.bad_settings import BadSettings
from infra.settings import Settings, checked

SECRET = "verysecrettoken"  # pragma: allowlist secret
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


def test_apprise_is_loaded_only_for_a_url() -> None:
    code = "import sys, workers.leader.leader; print('apprise' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
