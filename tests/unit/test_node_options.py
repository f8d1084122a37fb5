"""The command line of `gpu-orchestrator node`."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme

from infra.environment.variables import AGENT, AGENT_PREFIX
from workers.cli import main
from workers.node.errors import BadOption
from workers.node.options import Options, add_arguments, read_options
from workers.node.work import Command, Handler

NEEDED = ["--api", "http://10.0.0.1:8080", "--api-key", "k" * 32, "--gpu-id", "gpu_001", "--handler", "2=jobs:run"]


def parse(arguments: list[str], environ: Mapping[str, str] | None = None) -> Options:
    parser = argparse.ArgumentParser()
    add_arguments(parser, environ or {})
    return read_options(parser.parse_args(arguments), environ or {})


def test_defaults() -> None:
    options = parse(NEEDED)
    assert options.api == "http://10.0.0.1:8080/api/v2"
    assert (options.host, options.port, options.priority, options.slots) == ("127.0.0.1", 0, "NORMAL", None)
    assert (options.heartbeat_interval, options.drain_timeout) == (10, 30)
    assert options.state_dir is None
    assert not options.deregister_on_exit


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md", "docs/nodes.md"])
def test_the_documented_commands_are_taken(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands are taken as they are, with a key file where the line before them puts one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    text = (Path(__file__).parents[2] / name).read_text(encoding="utf-8")
    commands = re.findall(r"^(?:\(umask 077;.* > (\S+)\)\n)?\S+ \S+/gpu-orchestrator node (.*)$", text, re.MULTILINE)
    assert commands
    for file, command in commands:
        key = Path(file).expanduser()
        key.parent.mkdir(exist_ok=True)
        key.write_text("k" * 32)
        key.chmod(0o600)
        words = [str(Path(word).expanduser()) if word.startswith("~") else word for word in shlex.split(command)]
        assert parse(words).api_key == "k" * 32
        assert Path.cwd() not in key.parents


def test_work_of_both_kinds() -> None:
    options = parse([*NEEDED, "--command", "3=python 'my script.py' --fast", "--handler", "4=a.b.c:Class.method"])
    assert options.work == {
        2: Handler("jobs:run"),
        3: Command(("python", "my script.py", "--fast")),
        4: Handler("a.b.c:Class.method"),
    }


def test_the_environment_gives_defaults() -> None:
    environ = {
        "ORCHESTRATOR_NODE_API": "http://api:80/api/v2/",
        "ORCHESTRATOR_NODE_KEY": "secret",
        "ORCHESTRATOR_NODE_GPU_ID": "gpu_7",
        "ORCHESTRATOR_NODE_SLOTS": "4",
        "ORCHESTRATOR_NODE_PRIORITY": "vip",
        "ORCHESTRATOR_NODE_HANDLER": "2=jobs:run 3=jobs:walk",
        "ORCHESTRATOR_NODE_COMMAND": "4=sh -c 'echo {}'\n5=true\n",
        "ORCHESTRATOR_NODE_STATE_DIR": "/var/lib/node",
        "VAST_CONTAINERLABEL": "C.123",
    }
    options = parse(["--slots", "2"], environ)
    assert (options.api, options.api_key, options.gpu_id) == ("http://api:80/api/v2", "secret", "gpu_7")
    assert (options.slots, options.priority, options.vast_id) == (2, "VIP", "C.123")
    assert sorted(options.work) == [2, 3, 4, 5]
    assert options.state_dir == Path("/var/lib/node")


KEYLESS = [word for word in NEEDED if word not in ("--api-key", "k" * 32)]


def test_the_key_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("of-the-file\n")
    file.chmod(0o400)
    by_option = [*KEYLESS, "--key-file", str(file)]
    both = parse(by_option, {"ORCHESTRATOR_NODE_KEY": "other"})  # pragma: allowlist secret
    for options in (parse(by_option), parse(KEYLESS, {"ORCHESTRATOR_NODE_KEY_FILE": str(file)}), both):
        assert options.api_key == "of-the-file"  # pragma: allowlist secret
    with pytest.raises(BadOption, match="both given"):
        parse([*NEEDED, "--key-file", str(file)])


@pytest.mark.parametrize(
    ("content", "mode", "complaint"),
    [
        (b"key", 0o640, "others may read or write"),
        (b"key", 0o602, "others may read or write"),
        (b"", 0o600, "is missing"),
        (b"two words", 0o600, "visible ASCII"),
        (b"\xff", 0o600, "has no key"),
        (None, 0o600, "cannot read"),
    ],
)
def test_a_key_file_that_cannot_serve_is_one_clear_line(
    content: bytes | None, mode: int, complaint: str, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
        file.chmod(mode)
    with pytest.raises(BadOption, match=complaint) as raised:
        parse([*KEYLESS, "--key-file", str(file)])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "complaint"), [(None, "cannot read"), ("", "holds no certificates"), ("text", "holds no certificates")]
)
def test_authorities_that_cannot_be_read_are_one_clear_line(
    content: str | None, complaint: str, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadOption, match=f"--ca-file: .*{complaint}"):
        parse([*NEEDED, "--ca-file", str(file)])
    variable = {"SSL_CERT_FILE": str(file)}
    with pytest.raises(BadOption, match=f"SSL_CERT_FILE: .*{complaint}"):
        parse([*NEEDED, "--api", "https://api"], variable)
    assert parse(NEEDED, variable).trust is None  # without TLS it is nobody's concern


def test_a_file_of_authorities_replaces_the_usual_ones(tmp_path: Path) -> None:
    for name in ("option", "variable"):
        trustme.CA(organization_name=name).cert_pem.write_to_path(tmp_path / name)
    variable = {"SSL_CERT_FILE": str(tmp_path / "variable")}
    by_option = parse([*NEEDED, "--api", "https://api", "--ca-file", str(tmp_path / "option")], variable).trust
    by_variable = parse([*NEEDED, "--api", "https://api"], variable).trust
    for trust, name in ((by_option, "option"), (by_variable, "variable")):
        assert trust is not None
        (authority,) = trust.get_ca_certs()
        assert (("organizationName", name),) in authority["subject"]


def test_the_key_is_not_shown() -> None:
    assert "k" * 32 not in repr(parse(NEEDED))


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        (["--handler", "2=other:run"], "task type 2 is given twice"),
        (["--handler", "x=jobs:run"], "--handler: 'x=jobs:run' does not start with TYPE="),
        (["--handler", "3=jobs"], "--handler: 'jobs' is not package.module:function"),
        (["--handler", "3=jobs:run; rm"], "is not package.module:function"),
        (["--command", "3="], "--command: the command is empty"),
        (["--command", "3='open"], "--command: No closing quotation"),
        (["--api-key", "two words"], "the key may only hold"),
    ],
)
def test_bad_work_and_keys(extra: list[str], complaint: str) -> None:
    with pytest.raises(BadOption, match=complaint):
        parse([*NEEDED, *extra])


@pytest.mark.parametrize("missing", ["--api", "--api-key", "--gpu-id", "--handler"])
def test_what_is_missing_is_named(missing: str) -> None:
    place = NEEDED.index(missing)
    with pytest.raises(BadOption, match=missing):
        parse(NEEDED[:place] + NEEDED[place + 2 :])


@pytest.mark.parametrize(
    "wrong",
    [
        ["--api", "10.0.0.1:8080"],
        ["--api", "ftp://host"],
        ["--api", "http://user:pw@host"],  # pragma: allowlist secret
        ["--gpu-id", "a/b"],
        ["--host", "localhost"],
        ["--port", "65536"],
        ["--port", "-1"],
        ["--advertise-ip", "node.example"],
        ["--advertise-port", "0"],
        ["--priority", "LOW"],
        ["--slots", "0"],
        ["--slots", "1.5"],
        ["--heartbeat-interval", "nan"],
        ["--heartbeat-interval", "0"],
        ["--drain-timeout", "-1"],
        ["--drain-timeout", "inf"],
    ],
)
def test_bad_values_exit_with_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        parse([*NEEDED, *wrong])
    assert exit.value.code == 2
    assert f"argument {wrong[0]}: " in capsys.readouterr().err


def test_a_missing_option_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", *NEEDED[:-2]]) == 2
    assert "at least one --handler or --command is needed" in capsys.readouterr().err


def test_the_names_of_variables_are_those_that_are_read() -> None:
    read: set[str] = set()

    class Recording(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            read.add(name)
            return default

    for arguments in (KEYLESS, NEEDED[:-2]):
        with pytest.raises(BadOption):
            parse(arguments, Recording(any="thing"))
    assert {name for name in read if name.startswith(AGENT_PREFIX)} == AGENT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLOTS", "0"),
        ("PRIORITY", "LOW"),
        ("HOST", "localhost"),
        ("DRAIN_TIMEOUT", "soon"),
        ("DEREGISTER_ON_EXIT", "on"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_bad_value_names_the_variable_that_it_comes_from(
    name: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(NEEDED, {AGENT_PREFIX + name: value})
    assert f": {AGENT_PREFIX}{name}: not " in capsys.readouterr().err.replace(f"{value!r} is not", "not")


def test_bad_work_names_the_variable_that_it_comes_from() -> None:
    with pytest.raises(BadOption, match="ORCHESTRATOR_NODE_HANDLER: "):
        parse(NEEDED[:-2], {"ORCHESTRATOR_NODE_HANDLER": "x"})


@pytest.mark.parametrize(("value", "meant"), [("true", True), ("1", True), ("FALSE", False), ("0", False), ("", False)])
def test_a_flag_by_its_variable(value: str, meant: bool) -> None:
    variable = {"ORCHESTRATOR_NODE_DEREGISTER_ON_EXIT": value}
    assert parse(NEEDED, variable).deregister_on_exit is meant
    assert parse([*NEEDED, "--deregister-on-exit"], variable).deregister_on_exit


def test_the_agent_points_out_a_variable_that_nothing_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_NODE_SLOT", "2")
    monkeypatch.setenv("ORCHESTRATOR_NODE_NETWORKS", "10.0.0.0/8")
    assert main(["node", *NEEDED[:-2]]) == 2
    warning, _ = capsys.readouterr().err.splitlines()
    assert warning == "warning: ORCHESTRATOR_NODE_SLOT is no setting: is ORCHESTRATOR_NODE_SLOTS meant?"


def test_a_path_that_a_stream_can_not_encode_is_shown_with_escapes(tmp_path: Path) -> None:
    file = tmp_path / "schl\u00fcssel"
    arguments = [sys.executable, "-m", "workers.cli", "node", *KEYLESS, "--key-file", str(file)]
    ended = subprocess.run(arguments, env={**os.environ, "PYTHONIOENCODING": "ascii:strict"}, capture_output=True)
    assert ended.returncode == 2
    assert b"schl\\xfcssel" in ended.stderr
