"""`make` before there is an environment: without venv, after a half-made one, with others' files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
OLD_PYTHON = '#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\nexit 1\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a blank and a `+` in its name, and what `make` needs before anything is installed."""
    folder = tmp_path / "my c++ projects"
    folder.mkdir()
    for name in ("Makefile", "make_venv.py"):
        shutil.copy(ROOT / name, folder)
    for name in ("requirements.lock", "pyproject.toml"):
        (folder / name).touch()
    return folder


@pytest.fixture
def done() -> list[str]:
    return []


@pytest.fixture
def program(checkout: Path, done: list[str], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`make_venv` of the checkout; what it would make and install is noted."""
    spec = spec_from_file_location("make_venv_of_a_test", checkout / "make_venv.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)

    def make_empty() -> None:
        done.append("made")
        module.VENV.mkdir(exist_ok=True)

    monkeypatch.setattr(module, "make_empty", make_empty)
    monkeypatch.setattr(module, "install", lambda *what: done.append("installed"))
    monkeypatch.setattr(module, "has_pip", lambda: True)
    monkeypatch.setattr(module, "require_writable", lambda folder: None)
    monkeypatch.setattr(sys, "argv", ["make_venv.py"])
    monkeypatch.setattr(sys, "prefix", str(module.VENV))
    return module


def make(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "PYTHON")}
    return subprocess.run(["make", *words], cwd=checkout, env=kept, capture_output=True, text=True, check=False)


def only_line(answer: subprocess.CompletedProcess[str]) -> str:
    """All that is said, but for make's own last line."""
    *lines, last = answer.stderr.splitlines()
    assert answer.returncode != 0
    assert last.startswith("make: ***")
    (line,) = [*answer.stdout.splitlines(), *lines]
    return line


@pytest.mark.parametrize("target", ["demo", "test", "check", "run", "bench", "faults", "lint"])
def test_every_target_says_that_python_is_too_old_in_one_line(checkout: Path, target: str) -> None:
    old = checkout / "python"
    old.write_text(OLD_PYTHON)
    old.chmod(0o755)
    line = only_line(make(checkout, target, f"PYTHON={old}"))
    assert "Python 3.11 or newer is needed" in line
    assert "Python 3.9.2" in line
    assert not (checkout / ".venv").exists()


def test_no_python_at_all(checkout: Path) -> None:
    assert "python3-venv" in only_line(make(checkout, "demo", "PYTHON=no-such-python"))


def test_the_package_that_debian_leaves_out_is_named(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], done: list[str]
) -> None:
    monkeypatch.setattr(program, "find_spec", lambda name: None if name == "ensurepip" else object())
    monkeypatch.setattr(program, "advice", lambda: "apt install python3-venv")
    assert program.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "lacks ensurepip: apt install python3-venv, then try again" in line
    assert done == []
    assert not program.VENV.exists()


@pytest.mark.parametrize("own", [True, False])
def test_the_package_is_that_of_the_python_which_is_used(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: True)
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3" if own else "/opt/python")
    name = "python3-venv" if own else f"python3.{sys.version_info[1]}-venv"
    assert program.advice().endswith(f"apt install {name}")


def test_an_environment_that_was_never_finished_is_made_again(program: ModuleType, done: list[str]) -> None:
    (program.VENV / "bin").mkdir(parents=True)
    assert program.main() == 0
    assert done == ["made", "installed", "installed"]
    assert program.is_current(None)


def test_a_failed_installation_leaves_no_stamp(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*what: str) -> None:
        raise subprocess.CalledProcessError(1, "pip")

    with monkeypatch.context() as patch:
        patch.setattr(program, "install", fail)
        assert program.main() == 1
    assert not program.STAMP.exists()
    assert "see above" in capsys.readouterr().err
    assert program.main() == 0
    assert done == ["made", "made", "installed", "installed"]


def test_changed_requirements_are_installed_into_what_is_there(program: ModuleType, done: list[str]) -> None:
    program.main()
    (program.ROOT / "requirements.lock").write_text("# another\n")
    assert not program.is_current(None)
    done.clear()
    program.main()
    assert done == ["installed", "installed"]


def test_a_moved_checkout_and_another_python_need_a_new_environment(program: ModuleType, done: list[str]) -> None:
    program.main()
    for part in (0, 1):
        lines = program.expected_stamp()
        lines[part] = b"another"
        program.STAMP.write_bytes(b"\n".join(lines))
        assert not program.is_current(None)
        done.clear()
        program.main()
        assert done == ["made", "installed", "installed"]


def test_a_python_that_is_asked_for_counts(program: ModuleType, tmp_path: Path) -> None:
    program.main()
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 3.99\n")
    other.chmod(0o755)
    assert program.is_current(sys.executable)
    assert not program.is_current(str(other))


def test_files_of_somebody_else_are_named_with_what_to_do(
    checkout: Path, program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    inner = checkout / ".venv" / "lib"
    inner.mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: inner.stat().st_uid + 1)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != inner)
    with pytest.raises(program.Refused, match="belongs to") as refused:
        program.require_writable(checkout / ".venv")
    first, _, advice = str(refused.value).partition(" belongs to ")
    assert first == str(inner)
    assert advice.endswith(f" '{checkout}/.venv'")
    assert ": sudo chown -R " in advice


def test_a_path_that_the_tools_can_not_take_is_refused(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a:b", "a$b", "a\nb", "a{b}"):
        monkeypatch.setattr(program, "ROOT", Path("/") / name)
        with pytest.raises(program.Refused, match="in its path"):
            program.require_tools()


def test_the_environment_says_where_packages_come_from_and_not_where_they_go(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign: dict[str, Any] = {"PIP_TARGET": "/x", "PIP_PREFIX": "/x", "PIP_USER": "1", "PIP_NO_BINARY": ":all:"}
    for name, value in {**foreign, "PYTHONPATH": "/x", "PIP_PROXY": "http://proxy", "HTTPS_PROXY": "y"}.items():
        monkeypatch.setenv(name, value)
    kept = program.clean()
    assert kept["PIP_USER"] == "0"
    assert not kept.keys() & (foreign.keys() - {"PIP_USER"} | {"PYTHONPATH"})
    assert (kept["PIP_PROXY"], kept["HTTPS_PROXY"]) == ("http://proxy", "y")
