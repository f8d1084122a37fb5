"""Work that looks for secrets: in its own environment, and in what the kernel shows of the processes above it."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def shown(path: str, secret: bytes) -> str:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return type(error).__name__
    return "the secret" if secret in content else "nothing"


def memory(pid: int, secret: bytes) -> str:
    """All that can be read of a process' heap and stack."""
    try:
        maps = re.findall(r"^(\w+)-(\w+) rw.*$", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE)
        with open(f"/proc/{pid}/mem", "rb") as file:
            for start, end in maps:
                file.seek(int(start, 16))
                if secret in file.read(int(end, 16) - int(start, 16)):
                    return "the secret"
    except OSError as error:
        return type(error).__name__
    return "nothing"


def main() -> None:
    task = json.load(sys.stdin)
    secret = task["secret"][::-1].encode()  # backwards, so that our own input is none
    supervisor = os.getppid()
    agent = parent_of(supervisor)
    found = {
        "own": sorted(name for name, value in os.environ.items() if secret.decode() in value),
        "uid": os.getuid(),
        "groups": sorted({os.getgid(), *os.getgroups()}),
        "home": os.environ.get("HOME"),
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2)[:-1],
        "streams": [
            os.access("/dev/stdin", os.R_OK),
            *(os.access(f"/dev/std{name}", os.W_OK) for name in ("out", "err")),
        ],
        "agent": {
            "environ": shown(f"/proc/{agent}/environ", secret),
            "cmdline": shown(f"/proc/{agent}/cmdline", secret),
            "memory": memory(agent, secret),
            "descriptors": shown(f"/proc/{agent}/fd/0", secret),
        },
        "supervisor": {
            "environ": shown(f"/proc/{supervisor}/environ", secret),
            "cmdline": shown(f"/proc/{supervisor}/cmdline", secret),
        },
    }
    sys.stdout.write(json.dumps(found) + "\n")


main()
