"""Why tasks wait, in both languages."""

from __future__ import annotations

import pytest

from api.console import rendering, why
from infra.db.slots.capacity import Nodes
from tests.unit.console_rows import asked

NODES = Nodes(6, 2, 0, faulty=1, offline=0, draining=0, resting=1, full=2, free=0, slots=4, free_slots=0)


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", "All slots for this type are taken: 2 full, 1 faulty, 1 resting after failures"),
        ("zh", "该类型的槽位已全部占用：2 个已满、1 个故障、1 个因失败暂停派发"),
    ],
)
def test_a_task_s_reason_counts_the_nodes(language: str, said: str) -> None:
    assert why.reason(asked([], language=language), NODES, sees_nodes=True) == said


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", "Of 6 nodes: 2 run other types, 2 full, 1 faulty, 1 resting after failures."),
        ("zh", "共 6 个节点：2 个仅支持其他类型、2 个已满、1 个故障、1 个因失败暂停派发。"),
    ],
)
def test_a_type_s_reason_counts_the_nodes(language: str, said: str) -> None:
    assert rendering.environment(language).get_template("why.html").render(nodes=NODES).strip() == said
