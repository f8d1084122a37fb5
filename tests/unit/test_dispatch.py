"""The worker's log of a dispatch."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.testing import ActivityEnvironment

from activities.dispatch import _unclear


def test_an_unclear_answer_is_one_line_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Temporal's worker logs the traceback of a failure, unless it is benign."""
    environment = ActivityEnvironment()
    environment.info = replace(environment.default_info(), scheduled_time=datetime.now(UTC))
    with pytest.raises(ApplicationError, match="no answer: refused") as raised:
        environment.run(_unclear, "no answer: refused")
    assert (raised.value.type, raised.value.category) == ("DispatchAmbiguous", ApplicationErrorCategory.BENIGN)
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.getMessage().startswith("the node's answer leaves the attempt open: no answer: refused")
    assert len(record.getMessage().splitlines()) == 1
