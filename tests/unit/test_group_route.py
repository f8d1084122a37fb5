"""The answer about a group with more task types than have counts of their own."""

from __future__ import annotations

from tests.unit.whole_api import client


async def test_a_group_of_many_types_has_its_counts_and_no_estimate() -> None:
    kinds = {(2, "QUEUED"): 1, (None, "QUEUED"): 2000, (None, "COMPLETED"): 999}
    async with client("user", kinds) as http:
        data = (await http.get("http://test/api/v2/groups/g")).json()["data"]
    assert (data["total"], data["statusCounts"]["QUEUED"], data["progress"]) == (3000, 2001, 33)
    assert data["estimatedRemainingTime"] is None
