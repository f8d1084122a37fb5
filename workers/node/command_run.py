"""Output of a `--command` program: progress and last words on stderr, its result on stdout."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable

from infra.json import results
from infra.json.strict_json import Unfit
from workers.node.documents import Documents
from workers.node.errors import BadOutput
from workers.node.outcome import Outcome, ended, failed, succeeded

log = logging.getLogger(__name__)

_PROGRESS = re.compile(rb"\s*progress\s+(\d{1,9})\s*%?\s*")
_LAST_WORDS = 20  # lines


class CommandOutput:
    """Listens to one run of a program."""

    def __init__(self, name: str, progress: Callable[[int], None]) -> None:
        self._name = name
        self._progress = progress
        self._documents = Documents()
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)

    def stdout_line(self, line: bytes) -> None:
        """A line of the result, or of anything else."""
        self._documents.line(line)

    def stderr_line(self, line: bytes) -> None:
        """`progress 65`, or words to keep for the error message."""
        if found := _PROGRESS.fullmatch(line):
            self._progress(min(100, int(found[1])))
            return
        text = line.decode(errors="replace")
        self._last_words.append(text)
        log.debug("%s: %s", self._name, text)

    def outcome(self, status: int) -> Outcome:
        """The exit status decides; then the result must be one that may travel."""
        if status != 0:
            return ended(status, "\n".join(self._last_words))
        try:
            return succeeded(results.result(self._documents.last()))
        except BadOutput as error:
            return failed(str(error))
        except Unfit as error:
            return failed(f"the result {error}")
