"""Log lines of a worker about activities that fail."""

from __future__ import annotations

import logging

import pytest
from psycopg.errors import QueryCanceled

from infra.db.session import DatabaseSilent
from infra.temporal.access import TemporalAway
from workers.serving.outage_logs import OutageInALine

log = logging.getLogger("tests.outage_logs")
log.addFilter(OutageInALine())


def logged(error: Exception) -> None:
    try:
        raise error
    except Exception:
        log.warning("Completing activity as %s", "failed", exc_info=True)


@pytest.mark.parametrize("error", [DatabaseSilent("it is silent"), TemporalAway("it is silent")])
def test_an_outage_takes_a_line(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    logged(error)
    assert caplog.messages == ["Completing activity as failed: it is silent"]
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("error", [ValueError("a defect"), QueryCanceled("it took too long")])
def test_a_defect_keeps_its_traceback(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    logged(error)
    assert "Traceback" in caplog.text
