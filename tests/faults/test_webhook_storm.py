"""A short storm (`tests.faults.webhook_storm`)."""

from __future__ import annotations

import pytest

from tests.faults import webhook_storm


@pytest.mark.timeout(300)
async def test_every_end_arrives_though_parts_are_killed():
    figures = await webhook_storm.run(60, kills=4, every_s=3.0)
    assert figures["kills"] >= 2
    assert figures["requests"] > 60
