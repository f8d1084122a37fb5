"""The process that a `--handler` callable runs in; run as a program, it needs only the standard library.

It imports the callable, says so, waits for one job (a line of JSON on stdin), runs it and ends. What it says to
the agent travels over the pipe that was its standard output; what the user's code prints goes to standard error.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

Function = Callable[[dict[str, Any], Callable[[int], None]], Any]


def main(target: str) -> None:
    """Import, wait, run; every failure is reported to the agent before it ends the process."""
    agent = Channel()
    try:
        function = _load(target)
    except BaseException as error:
        agent.say(setup_error=_describe(error))
        raise
    agent.say(ready=True)
    if job := _read_job():
        _run(function, job, agent)


class Channel:
    """The stream to the agent: one JSON object a line."""

    def __init__(self) -> None:
        self._pipe = os.fdopen(os.dup(1), "wb")  # not inheritable: no child of the work can write to it
        self._lock = threading.Lock()
        self._progress = -1
        os.dup2(2, 1)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)

    def report(self, progress: int) -> None:
        """Report progress, 0 to 100. The user's code calls it from any thread."""
        percent = max(0, min(100, int(progress)))
        if percent != self._progress:
            self._progress = percent
            self.say(progress=percent)

    def say(self, **message: object) -> None:
        """Raises TypeError, ValueError or RecursionError on what is not JSON."""
        line = json.dumps(message, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
        with self._lock:
            self._pipe.write(line + b"\n")
            self._pipe.flush()


def _load(target: str) -> Function:
    here = str(Path(__file__).parent)
    # The user's modules are found from the working directory, and never shadowed by the agent's own files.
    sys.path[:] = [os.getcwd(), *(entry for entry in sys.path if entry != here)]
    module, _, path = target.partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    if not callable(found):
        raise TypeError(f"{target} is not callable")
    return found  # type: ignore[no-any-return]


def _read_job() -> dict[str, Any] | None:
    line = sys.stdin.buffer.readline()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return json.loads(line) if line else None


def _run(function: Function, job: dict[str, Any], agent: Channel) -> None:
    os.environ.update(job["environment"])
    try:
        output = function(job["input"], agent.report)
    except BaseException as error:
        if _is_bad_input(error):
            agent.say(error=str(error) or type(error).__name__, rejected=True)
        else:
            agent.say(error=_describe(error))
        raise
    if not isinstance(output, dict):
        agent.say(error=f"the handler returned {type(output).__name__}, not a dict")
        return
    try:
        agent.say(output=output)
    except (TypeError, ValueError, RecursionError) as error:
        agent.say(error=f"the result is not JSON: {_describe(error)}")


def _is_bad_input(error: BaseException) -> bool:
    """Known by its name: the handler's environment need not have this package, nor take the class from it."""
    return any(kind.__name__ == "BadInput" for kind in type(error).__mro__)


def _describe(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text.encode(errors="replace").decode()[:2000]


if __name__ == "__main__":
    main(sys.argv[1])
