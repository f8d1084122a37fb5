"""The key that is used, and the files that are trusted."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu_orchestrator_client import naming
from tests.unit.fake_api import FakeApi, serving
from workers.cli import main
from workers.command import profile
from workers.command.profile import NotSignedIn, Profile

KEPT = Profile("https://gpu.example.com", "abc", "user_001", "shop")


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in (naming.URL, naming.KEY, naming.USER, naming.APP):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "gpu-orchestrator" / "profile.json"


def test_it_is_kept_for_its_user_alone(file: Path) -> None:
    previous = os.umask(0)
    try:
        profile.write(KEPT, file)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [one.name for one in file.parent.iterdir()] == ["profile.json"]
    assert profile.current() == KEPT


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666])
def test_a_file_that_others_may_open_is_refused(file: Path, mode: int) -> None:
    profile.write(KEPT, file)
    file.chmod(mode)
    with pytest.raises(NotSignedIn, match=f"mode {mode:04o}"):
        profile.current()


def test_a_file_of_another_user_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile.write(KEPT, file)
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    with pytest.raises(NotSignedIn, match="belongs to another user"):
        profile.current()


def test_what_is_no_file_is_refused(file: Path) -> None:
    file.mkdir(parents=True)
    with pytest.raises(NotSignedIn, match="not a regular file"):
        profile.current()
    file.rmdir()
    os.mkfifo(file, 0o600)
    with pytest.raises(NotSignedIn, match="not a regular file"):
        profile.current()


@pytest.mark.parametrize("content", ["", "[]", "7", "{}", '{"url": "x", "key": "y"}', '{"url": 1, "key": 2}', "\0" * 9])
def test_a_broken_file_says_what_to_do(file: Path, content: str) -> None:
    profile.write(KEPT, file)
    file.write_text(content)
    with pytest.raises(NotSignedIn, match="gpu-orchestrator login"):
        profile.current()


def test_the_environment_overrides_and_needs_no_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotSignedIn, match="login"):
        profile.current()
    profile.write(KEPT, file)
    monkeypatch.setenv(naming.KEY, "other")
    assert profile.current().key == "other"
    file.chmod(0o644)
    monkeypatch.setenv(naming.URL, "http://localhost:1/api/v2/")
    assert profile.current() == Profile("http://localhost:1", "other")


def test_a_key_is_sent_to_its_own_server_only(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile.write(KEPT, file)
    monkeypatch.setenv(naming.URL, "http://evil.example.com")
    with pytest.raises(NotSignedIn, match="the kept key is for"):
        profile.current()
    monkeypatch.setenv(naming.URL, KEPT.url + "/")
    assert profile.current() == KEPT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gpu.example.com",
        "ftp://x",
        "http://",
        "http://a:b@x",
        "http://:b@x",
        "http://@x",
        "http://x?y=1",
        "http://x:99999",
        "http://ü",
    ],
)
def test_what_can_be_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        naming.url_of(text)


@pytest.mark.parametrize("text", ["", " ", "a b", "a\nb", "a\r\nX-Evil: 1", "é"])
def test_what_can_be_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="key"):
        naming.key_of(text)


class TestLogin:
    @pytest.fixture
    def pasted(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        read, written = os.pipe()
        os.write(written, b"  secret\n")
        os.close(written)
        with os.fdopen(read) as stream:
            monkeypatch.setattr("sys.stdin", stream)
            yield

    def test_keeps_a_key_that_the_server_knows(
        self, file: Path, pasted: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with serving(FakeApi({"GET /monitoring/health": [(200, {})]})) as api:
            assert main(["login", api.url, "--user", "user_001"]) == 0
        assert api.calls[0].headers["authorization"] == "Bearer secret"
        assert json.loads(file.read_text()) == {"url": api.url, "key": "secret", "user": "user_001"}
        assert "secret" not in "".join(capsys.readouterr())

    def test_keeps_no_other(self, file: Path, pasted: None, capsys: pytest.CaptureFixture[str]) -> None:
        with serving(FakeApi({"GET /monitoring/health": [(401, "未授权")]})) as api:
            assert main(["login", api.url]) == 5
        assert not file.exists()
        assert "未授权 (401)" in capsys.readouterr().err

    def test_says_that_a_key_travels_in_clear(self) -> None:
        assert Profile("http://gpu.example.com", "k").is_in_clear
        assert not Profile("http://127.0.0.1:8080", "k").is_in_clear
        assert not KEPT.is_in_clear

    def test_takes_no_key_as_an_option(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["login", "--help"])
        assert "--key" not in capsys.readouterr().out
