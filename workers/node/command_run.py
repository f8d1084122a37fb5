"""What a `--command` program says: progress and last words on stderr, its result on stdout."""

from __future__ import annotations

import json
import logging
import re
from collections import deque
from collections.abc import Callable

from workers.node import strict_json
from workers.node.errors import BadOutput
from workers.node.outcome import Outcome, failed, failed_exit, succeeded
from workers.node.output import OUTPUT_LIMIT, check_size, output_text

log = logging.getLogger(__name__)

_PROGRESS = re.compile(rb"\s*progress\s+(\d{1,9})\s*%?\s*")
_LAST_WORDS = 20  # lines


class CommandOutput:
    """Listens to one run of a program."""

    def __init__(self, name: str, progress: Callable[[int], None]) -> None:
        self._name = name
        self._progress = progress
        self._document: bytes | None = None
        self._scalar: bytes | None = None
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)

    def stdout_line(self, line: bytes) -> None:
        """Remember the last line that is JSON; a bare number or word counts only where no object or array does."""
        line = line.strip()
        if line[:1] in (b"{", b"["):
            if len(line) > OUTPUT_LIMIT or _is_json(line):
                self._document = line
        elif _is_json(line):
            self._scalar = line

    def stderr_line(self, line: bytes) -> None:
        """`progress 65`, or words to keep for the error message."""
        if found := _PROGRESS.fullmatch(line):
            self._progress(min(100, int(found[1])))
            return
        text = line.decode(errors="replace")
        self._last_words.append(text)
        log.debug("%s: %s", self._name, text)

    def outcome(self, status: int) -> Outcome:
        """The exit status decides; then the result must be strict JSON."""
        if status != 0:
            return failed_exit(status, "\n".join(self._last_words))
        line = self._document or self._scalar
        if line is None:
            return failed("no line of the standard output is JSON")
        try:
            check_size(len(line))
            return succeeded(output_text(strict_json.loads(line)))
        except BadOutput as error:
            return failed(str(error))
        except ValueError as error:
            return failed(f"the result is not strict JSON: {error}")


def _is_json(line: bytes) -> bool:
    """By Python, which takes NaN: such a line is meant as the result, and must fail rather than be passed over."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
