"""A reference in a process of its own, like our worker. Lines of JSON control it, and it ends with us."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

ANSWER_S = 180.0  # s, the longest that an answer may take

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class CompanionFailed(Exception):
    """The reference's process ended, or answered nothing in time."""


class Companion:
    """Runs between `async with` and its end."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._argv = (sys.executable, "-m", module, *arguments)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*self._argv, stdin=pipe, stdout=pipe)
        try:
            await self._line()  # it is ready
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def ask(self, **question: Any) -> dict[str, Any]:
        """Ask a question. Raises CompanionFailed."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        return await self._line()

    async def _line(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), ANSWER_S)
        except TimeoutError:
            raise CompanionFailed(f"{self._argv[2]} did not answer within {ANSWER_S:g} s") from None
        if not line:
            raise CompanionFailed(f"{self._argv[2]} ended, see its output above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _end(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def serve(answer: Answer | None = None) -> None:
    """The other side: report readiness, then answer each question until our standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    _say({"ready": True})
    while line := await reader.readline():
        _say(await answer(json.loads(line)) if answer is not None else {})


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
