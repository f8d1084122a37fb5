"""`gpu-orchestrator run`: the stack in the foreground, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable

from infra.environment.own_address import http_url
from infra.settings import load
from workers.stack import programs
from workers.stack.stack import Stack
from workers.waiting import unless

INTERRUPTED_TWICE = 130


def configure(parser: argparse.ArgumentParser) -> None:
    """Add no options: all settings come from the environment."""
    parser.epilog = "Settings are environment variables, ORCHESTRATOR_*: see infra/settings.py."


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM, and return 0. Raises BadSettings and StackError."""
    return asyncio.run(serve(Stack(load())))


async def serve(stack: Stack) -> int:
    """Run a stack from start to stop; a second signal kills what still runs. Raises StackError."""
    signals = Signals()
    try:
        if await unless(signals.asked, stack.start()):
            announce(stack, await programs.console_url(stack.settings, stack.api_key.secret))
            await signals.asked.wait()
    finally:
        signals.on_second(stack.kill)
        await stack.stop()
    return INTERRUPTED_TWICE if signals.count > 1 else 0


def announce(stack: Stack, console_url: str) -> None:
    """Print where everything is. The last line means that a task can be accepted."""
    ready = f"ready: {http_url(stack.settings.host, stack.settings.port)}"
    lines = [stack.api_key.describe(), f"console: {console_url}", ready]
    if stack.services.temporal_ui_url:
        lines.insert(0, f"Temporal Web UI: {stack.services.temporal_ui_url}")
    sys.stdout.write("".join(line + "\n" for line in lines))
    sys.stdout.flush()


class Signals:
    """SIGINT and SIGTERM, counted: the first requests a stop, the second an immediate end."""

    def __init__(self) -> None:
        self.count = 0
        self.asked = asyncio.Event()
        self._second: Callable[[], None] | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._receive)

    def on_second(self, act: Callable[[], None]) -> None:
        """Set what the second signal does, which may have come already."""
        self._second = act
        if self.count > 1:
            act()

    def _receive(self) -> None:
        self.count += 1
        self.asked.set()
        if self.count == 1:
            sys.stderr.write("stopping; once more to kill\n")
        elif self._second:
            self._second()
