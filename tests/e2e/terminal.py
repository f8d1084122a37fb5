"""A program on a terminal of 80 columns, as a person has it."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import re
import signal
import struct
import termios
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.conftest import eventually

CTRL_C = "\x03"
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Terminal:
    """`screen` is all that was ever written, without colours and movements."""

    process: Process
    fd: int
    raw: bytes = b""

    @property
    def screen(self) -> str:
        return _CODES.sub("", self.raw.decode(errors="replace"))

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    async def until(self, text: str) -> None:
        """Wait until it says something."""

        async def says() -> bool:
            assert text in self.screen or self.process.returncode is None, self.screen
            return text in self.screen

        await eventually(says)

    async def ended(self) -> int:
        """The exit status."""
        async with asyncio.timeout(20):
            status = await self.process.wait()
        self._read()
        return status

    def _read(self) -> None:
        try:
            while found := os.read(self.fd, 65536):
                self.raw += found
        except BlockingIOError:
            pass
        except OSError as error:  # the program has ended
            if error.errno != errno.EIO:
                raise
            asyncio.get_running_loop().remove_reader(self.fd)


@asynccontextmanager
async def terminal(*command: str, env: Mapping[str, str]) -> AsyncIterator[Terminal]:
    """Run a command on a terminal; what still runs at the end is killed."""
    fd, inner = os.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.set_blocking(fd, False)

    def prepare() -> None:
        os.login_tty(os.dup(inner))
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have it ignored

    process = await asyncio.create_subprocess_exec(*command, env=env, preexec_fn=prepare)
    os.close(inner)
    made = Terminal(process, fd)
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, made._read)
    try:
        yield made
    finally:
        loop.remove_reader(fd)
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(fd)
