"""The work of these tests' agents. Files let it go on, and record what it did."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workers.node import BadInput

if os.environ.get("SLOW_IMPORT") and Path(os.environ["SLOW_IMPORT"]).exists():
    time.sleep(600)

CONTEXT = ("TASK_ID", "TASK_ATTEMPT", "TASK_TYPE", "TASK_APP", "TASK_USER", "TASK_ENV", "TRACEPARENT")

DEAF = "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); {note}; time.sleep(600)"
NOTE = "open(sys.argv[1], 'a').write(f'{os.getpid()}\\n')"
ORPHAN = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)"


def double(input, report):
    with open(input["log"], "a") as log:
        log.write("run\n")
    return {"x": 2 * input["x"]}


def show(input, report):
    return {
        "input": input,
        "seen": {name: os.environ.get(name) for name in CONTEXT},
        "secret": [name for name, value in os.environ.items() if "node-key-of-the-tests" in value],
        "cuda": os.environ["CUDA_VISIBLE_DEVICES"],
    }


def talk(input, report):
    print('{"output": {"from": "print"}}', flush=True)  # noqa: T201
    os.write(1, b'{"error": "from write"}\n')
    assert sys.stdin.read() == ""
    report(30)
    report(250)
    return {"said": "all"}


def crash(input, report):
    os.kill(os.getpid(), signal.SIGSEGV)


def fail(input, report):
    raise ValueError("no face found")


def gated(input, report):
    report(40)
    Path(input["here"]).touch()
    while not Path(input["go"]).exists():
        time.sleep(0.005)
    return {}


def family(input, report):
    """A deaf child, and a grandchild in a session of its own that nobody waits for; our own pid comes first."""
    with open(input["pids"], "a") as note_self:
        note_self.write(f"{os.getpid()}\n")
    deaf = (sys.executable, "-c", DEAF.format(note=NOTE), input["pids"])
    subprocess.Popen(deaf)
    subprocess.run((sys.executable, "-c", ORPHAN, *deaf), check=True)
    time.sleep(600)


def big(input, report):
    return {"x": "x" * input["size"]}


def nested(levels):
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"x": value}
    return value


def endless():
    value: dict[str, Any] = {}
    value["x"] = value
    return value


ODD = {
    "nan": lambda: {"x": float("nan")},
    "bytes": lambda: {"x": b"x"},
    "set": lambda: {"x": {1}},
    "datetime": lambda: {"x": datetime.now(UTC)},
    "tuple": lambda: {(1, 2): 3},
    "list": lambda: [],
    "nothing": lambda: None,
    "nul": lambda: {"text": "a\x00b"},
    "surrogate": lambda: {"text": "a\ud800b"},
    "large number": lambda: {"x": 10**4500},
    "itself": endless,
    "numbers for names": lambda: {1: {None: [True, 2.5]}},
    "99 levels": lambda: nested(99),
    "100 levels": lambda: nested(100),
    "101 levels": lambda: nested(101),
    "980 levels": lambda: nested(980),
    "many levels": lambda: nested(100_000),
    "2 MB": lambda: {"x": "x" * 2_000_000},
}


def odd(input, report):
    return ODD[input["what"]]()


class OwnError(Exception):
    pass


class Ours:
    class BadInput(OwnError):
        pass


class BadInputOfOurOwn(Ours.BadInput):
    """Not the agent's class, but of its name."""


def picky(input, report):
    if input["how"] == "ours":
        raise BadInputOfOurOwn("no face found")
    try:
        raise KeyError("face")
    except KeyError:
        raise BadInput(*input["words"]) from None
