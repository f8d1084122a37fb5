"""The options of `gpu-orchestrator node`: the command line first, then ORCHESTRATOR_NODE_*, then the defaults."""

from __future__ import annotations

import argparse
import math
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from gpu_orchestrator_client import naming
from infra.environment.variables import AGENT_PREFIX
from workers.node.errors import BadOption
from workers.node.run_as import User, find_user
from workers.node.work import Work, parse_command, parse_handler

ENV_PREFIX = AGENT_PREFIX


@dataclass(frozen=True)
class Options:
    """A checked command line. Durations are seconds."""

    api: str  # scheme://host:port/api/v2
    api_key: str = field(repr=False)
    trust: ssl.SSLContext | None  # None: the usual authorities
    gpu_id: str
    host: str
    port: int
    advertise_ip: str | None
    advertise_port: int | None
    hostname: str
    vast_id: str | None
    priority: str
    slots: int | None
    work: Mapping[int, Work]
    heartbeat_interval: float
    drain_timeout: float
    state_dir: Path | None
    run_as: User | None
    deregister_on_exit: bool
    log_level: str


def add_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Declare the options; the environment's values become the defaults."""

    def env(name: str, default: str | None = None) -> str | None:
        value = environ.get(ENV_PREFIX + name)
        return _FromVariable(value, ENV_PREFIX + name) if value else default

    def add(option: str, type: Callable[[str], object] = str, **rest: Any) -> None:
        parser.add_argument(option, type=_naming_its_variable(type), **rest)

    parser.epilog = f"Each option can also be given as {ENV_PREFIX}<OPTION>, --api-key as {ENV_PREFIX}KEY."
    add("--api", default=env("API"), type=_api, metavar="URL", help="the orchestrator, http://host:port")
    add("--api-key", metavar="KEY", help=f"this node's key; {ENV_PREFIX}KEY keeps it out of the process list")
    add("--key-file", type=Path, metavar="FILE", help="a file with that key; only its owner may read it")
    add("--ca-file", default=env("CA_FILE"), type=Path, metavar="FILE", help="authorities to trust; else SSL_CERT_FILE")
    add("--gpu-id", default=env("GPU_ID"), type=_gpu_id, metavar="ID", help="the id to register as")
    add("--host", default=env("HOST", "127.0.0.1"), type=_ip, metavar="IP", help="address to listen on")
    add("--port", default=env("PORT", "0"), type=_whole(0, 65535), help="port to listen on; 0: a free one")
    add("--advertise-ip", default=env("ADVERTISE_IP"), type=_ip, metavar="IP", help="address to register")
    add("--advertise-port", default=env("ADVERTISE_PORT"), type=_whole(1, 65535), metavar="PORT", help="and its port")
    add("--hostname", default=env("HOSTNAME", socket.gethostname()), help="host name to register")
    add("--vast-id", default=env("VAST_ID", environ.get("VAST_CONTAINERLABEL")), help="vast.ai instance id")
    add("--priority", default=env("PRIORITY", "NORMAL"), type=_one_of("NORMAL", "VIP"), help="NORMAL or VIP")
    add("--slots", default=env("SLOTS"), type=_whole(1, 1024), metavar="N", help="default: one per GPU or MIG slice")
    add("--handler", action="append", metavar="TYPE=MODULE:FUNCTION", help="a Python callable; repeatable")
    add("--command", action="append", dest="commands", metavar="TYPE='WORDS'", help="a program; repeatable")
    add("--heartbeat-interval", default=env("HEARTBEAT_INTERVAL", "10"), type=_seconds(0.05), metavar="SECONDS")
    add("--drain-timeout", default=env("DRAIN_TIMEOUT", "30"), type=_seconds(0.0), metavar="SECONDS")
    add("--state-dir", default=env("STATE_DIR"), type=Path, metavar="DIR", help="remember attempts across restarts")
    add("--run-as", default=env("RUN_AS"), metavar="USER", help="run work as this user; needs root")
    add(
        "--deregister-on-exit", _flag, nargs="?", const=True, metavar="FLAG", default=env("DEREGISTER_ON_EXIT", "false")
    )
    add("--log-level", default=env("LOG_LEVEL", "INFO"), type=_one_of("DEBUG", "INFO", "WARNING", "ERROR"))


def read_options(args: argparse.Namespace, environ: Mapping[str, str]) -> Options:
    """Check the options that argparse cannot check by itself. Raises BadOption."""
    for option in ("api", "gpu_id"):
        if getattr(args, option) is None:
            raise BadOption(f"--{option.replace('_', '-')} (or {ENV_PREFIX}{option.upper()}) is missing")
    given = {name: value for name, value in vars(args).items() if name in Options.__dataclass_fields__}
    checked = {
        "api_key": _key(args, environ),
        "trust": _trust(args, environ),
        "run_as": find_user(args.run_as) if args.run_as else None,
        "work": _work(args, environ),
    }
    return Options(**given | checked)


def _key(args: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """The key; the command line's before the environment's. Raises BadOption."""
    if args.api_key and args.key_file:
        raise BadOption("--api-key and --key-file are both given")
    file = args.key_file or (environ.get(ENV_PREFIX + "KEY_FILE") if not environ.get(ENV_PREFIX + "KEY") else None)
    key = args.api_key or (read_key_file(Path(file)) if file else environ.get(ENV_PREFIX + "KEY"))
    if not key:
        raise BadOption(f"--key-file or --api-key ({ENV_PREFIX}KEY_FILE, {ENV_PREFIX}KEY) is missing")
    if not re.fullmatch(r"[!-~]+", key):
        raise BadOption("the key may only hold visible ASCII characters")
    return str(key)


def read_key_file(path: Path) -> str:
    """The key in a file that only its owner, us or root, may read. Raises BadOption."""
    try:
        with path.open("rb") as file:
            entry = os.fstat(file.fileno())
            if entry.st_mode & 0o077:
                raise BadOption(f"--key-file: others may read or write {path}: chmod 600 {path}")
            if entry.st_uid not in (os.geteuid(), 0):
                raise BadOption(f"--key-file: {path} belongs to another user")
            return file.read(4096).decode("ascii").strip()
    except UnicodeDecodeError:
        raise BadOption(f"--key-file: {path} has no key") from None
    except OSError as error:
        raise BadOption(f"--key-file: cannot read {path}: {error.strerror}") from None


def _trust(args: argparse.Namespace, environ: Mapping[str, str]) -> ssl.SSLContext | None:
    """The authorities trusted to sign the orchestrator's certificate, or None for the usual ones."""
    if args.ca_file:
        return _authorities("--ca-file", args.ca_file)
    file = environ.get("SSL_CERT_FILE") if args.api.startswith("https:") else None
    return _authorities("SSL_CERT_FILE", Path(file)) if file else None


def _authorities(source: str, path: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise BadOption(f"{source}: {path} holds no certificates (PEM)") from None
    except OSError as error:
        raise BadOption(f"{source}: cannot read {path}: {error.strerror}") from None


def _work(args: argparse.Namespace, environ: Mapping[str, str]) -> Mapping[int, Work]:
    handlers = args.handler or environ.get(ENV_PREFIX + "HANDLER", "").split()
    # One command per line there: the words of a command are apart by blanks themselves.
    commands = args.commands or [line for line in environ.get(ENV_PREFIX + "COMMAND", "").splitlines() if line.strip()]
    work: dict[int, Work] = {}
    for task_type, each in [
        *_parsed("--handler" if args.handler else f"{ENV_PREFIX}HANDLER", handlers, parse_handler),
        *_parsed("--command" if args.commands else f"{ENV_PREFIX}COMMAND", commands, parse_command),
    ]:
        if task_type in work:
            raise BadOption(f"task type {task_type} is given twice")
        work[task_type] = each
    if not work:
        raise BadOption("at least one --handler or --command is needed")
    return work


def _parsed(option: str, texts: Iterable[str], parse: Callable[[str], tuple[int, Work]]) -> Iterable[tuple[int, Work]]:
    for text in texts:
        try:
            yield parse(text)
        except ValueError as error:
            raise BadOption(f"{option}: {error}") from None


def _api(text: str) -> str:
    try:
        return naming.url_of(text) + naming.BASE
    except ValueError:
        raise argparse.ArgumentTypeError("not an address like http://host:port") from None


def _gpu_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", text):
        raise argparse.ArgumentTypeError("up to 128 letters, digits and . _ : - are allowed")
    return text


def _ip(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address") from None


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"not a whole number from {least} to {most}")
        return int(text)

    return parse


def _seconds(least: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not least <= seconds < math.inf:
            raise argparse.ArgumentTypeError(f"not a number of seconds, {least} or more")
        return seconds

    return parse


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise argparse.ArgumentTypeError(f"not one of {', '.join(_FLAGS)}")
    return _FLAGS[text.lower()]


_FLAGS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


class _FromVariable(str):
    """A text that remembers which variable it comes from."""

    def __new__(cls, value: str, variable: str) -> _FromVariable:
        self = super().__new__(cls, value)
        self.variable = variable
        return self

    variable: str


def _naming_its_variable(parse: Callable[[str], object]) -> Callable[[str], object]:
    def named(text: str) -> object:
        try:
            return parse(text)
        except argparse.ArgumentTypeError as error:
            variable = f"{text.variable}: " if isinstance(text, _FromVariable) else ""
            raise argparse.ArgumentTypeError(f"{variable}{error}") from None

    return named


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.upper() not in names:
            raise argparse.ArgumentTypeError(f"not one of {', '.join(names)}")
        return text.upper()

    return parse
