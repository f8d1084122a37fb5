"""A few streams over a few kills of the API (`tests.faults.streams_over_kills`)."""

from __future__ import annotations

import pytest

from tests.faults import streams_over_kills


@pytest.mark.timeout(240)
async def test_each_stream_is_its_task_s_timeline(stack):
    figures = await streams_over_kills.run(stack, streams=20, kills=3)
    assert figures["events"] >= 20
