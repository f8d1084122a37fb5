"""The options of `gpu-orchestrator keys`: what is refused before any database is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from workers.arguments import duration, expiry
from workers.cli import main

CREATE = ["keys", "create", "--role", "user", "--owner", "x"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["keys"], "action"),
        (["keys", "create", "--role", "boss", "--owner", "x"], "role"),
        (["keys", "create", "--role", "user"], "owner"),
        (["keys", "create", "--role", "user", "--owner", ""], "owner"),
        (["keys", "create", "--role", "user", "--owner", "a\nb"], "owner"),
        ([*CREATE, "--expires", "soon"], "expires"),
        ([*CREATE, "--expires", "1y"], "expires"),
        ([*CREATE, "--expires", "999999999w"], "too long"),
        ([*CREATE, "--note", "x" * 501], "note"),
        ([*CREATE, "--max-priority", "high"], "max-priority"),
        ([*CREATE, "--max-priority", "9223372036854775808"], "max-priority"),
        ([*CREATE, "--apps", "a,,b"], "apps"),
        ([*CREATE, "--apps", ""], "apps"),
        (["keys", "create", "--role", "node", "--owner", "x", "--types", "2,x"], "types"),
        (["keys", "create", "--role", "node", "--owner", "x", "--max-gpus", "0"], "max-gpus"),
        (["keys", "create", "--role", "node", "--owner", "x", "--max-slots", "-1"], "max-slots"),
        (["keys", "create", "--role", "node", "--owner", "x", "--networks", "10.0.0.1/8"], "networks"),
        (["keys", "revoke"], "KEY_ID"),
        (["keys", "revoke", "key_1", "--all-before", "2h"], "not allowed"),
        (["keys", "revoke", "--all-before", "soon"], "all-before"),
        (["keys", "rotate", "key_1", "--overlap", "1"], "overlap"),
    ],
)
def test_a_mistake_is_reported(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_times() -> None:
    assert duration("90s") == timedelta(seconds=90)
    assert duration("2w") == timedelta(days=14)
    assert expiry("2030-01-02") == datetime(2030, 1, 2, tzinfo=UTC)
    assert expiry("2030-01-02T03:04:05+08:00") == datetime(2030, 1, 1, 19, 4, 5, tzinfo=UTC)
    assert expiry("30d") - datetime.now(UTC) == pytest.approx(timedelta(days=30), abs=timedelta(seconds=5))
