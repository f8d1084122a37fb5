"""Ctrl-C while a command starts: quietly, with the shell's status for it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

START = "import sys; from workers import cli; cli.COMMANDS['slow'] = ('slow', ''); sys.exit(cli.main(['slow']))"
# What libraries do on import: they take any error for a missing extra, or raise it as another one.
IMPORTING = """
import time
try:
    print("here", flush=True)
    time.sleep(60)
except BaseException as error:
    raise ImportError("no such extra") from error
"""
RUNNING = """
import time
def configure(parser): pass
def run(args):
    print("here", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("module", [IMPORTING, RUNNING], ids=["importing", "running"])
async def test_ctrl_c_says_nothing_and_ends_with_130(tmp_path: Path, module: str) -> None:
    (tmp_path / "slow.py").write_text(module)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", START),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell may have it ignored
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert await process.stdout.readline() == b"here\n"
        process.send_signal(signal.SIGINT)
        output, errors = await process.communicate()
    assert (process.returncode, output, errors) == (130, b"", b"")
