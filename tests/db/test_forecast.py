"""A process's short memory of a type: its capacity, and how long its work usually takes."""

from __future__ import annotations

from infra.db.slots.forecast import Forecast
from tests.db.life import Life
from tests.db.one_connection import OneConnection
from workflows.domain.task import USUAL_DURATION_S

TOOK = (
    "UPDATE tasks SET status = 'COMPLETED', completed_at = created_at, waiting_since = NULL,"
    " created_at = created_at - make_interval(secs => %(took)s),"
    " started_at = created_at - make_interval(secs => %(took)s) WHERE task_id = %(task_id)s"
)


async def test_a_type_is_read_again_until_its_first_task_has_ended(life: Life) -> None:
    database = OneConnection(life.connection)
    forecast = Forecast(database)
    await life.create("first")
    assert await forecast.usual_s(1) == USUAL_DURATION_S
    await life.connection.execute(TOOK, {"task_id": "first", "took": 0.5})
    assert await forecast.usual_s(1) == 0.5
    assert (await forecast.usual_s(1), database.reads) == (0.5, 2)  # and then known for a moment
    assert await forecast.usual_s(2) == USUAL_DURATION_S
