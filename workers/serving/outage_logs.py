"""Logs during an outage: a line for each activity that fails by it, without the traceback, which says nothing new."""

from __future__ import annotations

import logging

from psycopg.errors import QueryCanceled

from infra.db.session import is_unavailable
from infra.temporal.access import TemporalAway


class OutageInALine(logging.Filter):
    """Replaces the traceback of an outage by the error's text."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and _is_outage(error):
            record.msg, record.args, record.exc_info = f"{record.getMessage()}: {error}", (), None
        return True


def _is_outage(error: BaseException) -> bool:
    """Whether a server is away. A statement that took too long is no outage: its traceback says which one it was."""
    return isinstance(error, TemporalAway) or (is_unavailable(error) and not isinstance(error, QueryCanceled))


def install() -> None:
    """Shorten what the SDK logs of activities."""
    logging.getLogger("temporalio.activity").addFilter(OutageInALine())
