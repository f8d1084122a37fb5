"""The order of the queue is defined once: a further key needs `order.py`, perhaps `ranks.py`, and a migration."""

from __future__ import annotations

import re
from dataclasses import fields
from math import inf
from pathlib import Path

import pytest

from infra.db.queue import order
from infra.db.queue.order import HEAD, QueuePlace, Ranked
from infra.db.schema.migrate import WRITTEN as SCHEMA

ROOT = Path(__file__).parents[2]
QUEUE = ROOT / "infra/db/queue"
DEFINED = {QUEUE / "order.py", QUEUE / "ranks.py"}
WRITTEN = {
    QUEUE / "aging.py",
    *(ROOT / f"infra/db/transactions/{name}.py" for name in ("create_task", "create_batch", "change_priority")),
}
KEYS = [field.name for field in fields(Ranked)]


def test_the_rank_is_compared_only_where_the_order_is_defined() -> None:
    folders = ("activities", "api", "infra", "workers", "workflows")
    spelled = {path for folder in folders for path in (ROOT / folder).rglob("*.py") if "queue_rank" in path.read_text()}
    spelled = {path for path in spelled if "schema" not in path.parts}
    assert spelled == DEFINED | WRITTEN
    assert [path.name for path in WRITTEN if ".queue_rank" in path.read_text()] == []


def test_the_fragments_have_every_key() -> None:
    assert order.columns("t").split(", ") == [f"t.{key}" for key in KEYS]
    assert order.in_order("t").replace(" DESC", "") == order.columns("t")
    assert order.NAMES.split(", ") == KEYS
    assert all(f"%({key})s" in "".join(order.before("t")) for key in KEYS)
    assert all(f"%({key})s" in "".join(order.after("t")) for key in KEYS)
    given = order.arrays([QueuePlace(1, 2.0, 3)])
    assert given == {f"each_{key}": [value] for key, value in zip(KEYS, (1, 2.0, 3), strict=True)}


def test_an_index_has_the_order() -> None:
    (columns,) = re.findall(r"INDEX ix_tasks_queue ON public\.tasks USING btree \((.+?)\)", SCHEMA.read_text("utf-8"))
    assert columns.split(", ") == ["task_type", *order.in_order("t").replace("t.", "").split(", ")]


def test_places_are_sorted_as_the_queue_is() -> None:
    places = [
        HEAD,
        QueuePlace.head(1),
        QueuePlace(1, 0.5, 9),
        QueuePlace(1, 2.0, 1),
        QueuePlace(1, 2.0, 7),
        QueuePlace.of_new(1, 2.0),
        QueuePlace(0, 0.0, 1),
    ]
    assert sorted(reversed(places), key=lambda place: place.key) == places


def test_a_place_is_read_from_a_url_as_it_was_written() -> None:
    place = QueuePlace(1, 0.1 + 0.2, 7)
    assert QueuePlace.of_text(place.text) == place


@pytest.mark.parametrize(
    "text", ["", "1_2", "1_2_3_4", "2_0.0_1", "0_nan_1", f"0_{inf}_1", "0_0.0_-1", f"0_0.0_{2**62}", "x"]
)
def test_nonsense_is_no_place(text: str) -> None:
    assert QueuePlace.of_text(text) is None
