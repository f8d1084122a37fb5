"""The bootstrap key: configured, kept, or new."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.data_dir.layout import DataDir
from tests.stack_settings import stack_settings
from workers.stack import programs
from workers.stack.api_key import bootstrap_key, forget_replaced
from workers.stack.errors import StackError
from workers.stack.stack import Stack
from workers.stack.supervisor import Supervisor


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_configured_key_is_not_kept(tmp_path: Path) -> None:
    key = bootstrap_key(SecretStr("given"), tmp_path / "api_key")
    assert key.secret.get_secret_value() == "given"
    assert "given" not in key.describe()
    assert list(tmp_path.iterdir()) == []


def test_a_generated_key_is_kept_and_shown_once(tmp_path: Path) -> None:
    path = tmp_path / "api_key"
    first, second = bootstrap_key(None, path), bootstrap_key(None, path)
    assert first.secret == second.secret
    assert len(first.secret.get_secret_value()) >= 32
    assert first.secret.get_secret_value() in first.describe()
    assert second.secret.get_secret_value() not in second.describe()
    assert str(path) in second.describe()
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["two words", "schlüssel", "a\nb"])
def test_a_kept_key_that_no_header_carries_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "api_key").write_text(content, encoding="utf-8")
    with pytest.raises(StackError, match="holds no key that can be sent: remove it"):
        bootstrap_key(None, tmp_path / "api_key")


def test_an_empty_key_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "api_key").touch()
    with pytest.raises(StackError, match="is empty"):
        bootstrap_key(None, tmp_path / "api_key")


def test_a_key_that_was_replaced_is_forgotten(tmp_path: Path) -> None:
    """The next start without a configured key makes a new one: the kept one would open nothing."""
    path = tmp_path / "api_key"
    kept = bootstrap_key(None, path)
    forget_replaced(kept, path)
    forget_replaced(bootstrap_key(kept.secret, path), path)
    assert path.exists()
    forget_replaced(bootstrap_key(SecretStr("given"), path), path)
    assert not path.exists()
    assert bootstrap_key(None, path).is_new


@pytest.mark.parametrize("refused", [False, True])
async def test_a_start_says_whether_its_key_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """Both `run` and the stack as a context say so; the kept key stays if the configured one is dead."""

    async def nothing(*_: object) -> None: ...

    async def is_refused(*_: object) -> bool:
        return refused

    for name in ("start", "stop", "__aenter__"):
        monkeypatch.setattr(Supervisor, name, nothing)
    monkeypatch.setattr(programs, "is_refused", is_refused)
    for enter in (Stack.start, Stack.__aenter__):
        kept = bootstrap_key(None, DataDir.create(tmp_path).api_key)
        assert kept.path is not None
        stack = Stack(stack_settings(tmp_path, api_key=SecretStr("given")), nodes=0)
        await enter(stack)
        assert ("set a new one" in stack.api_key.describe()) is refused
        assert "given" not in stack.api_key.describe()
        assert kept.path.exists() is refused
