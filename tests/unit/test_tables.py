"""Tables on a terminal 80 wide, and elsewhere."""

from __future__ import annotations

import io
from typing import Any

from rich.cells import cell_len
from rich.console import Console

from workers.command import tables
from workers.command.course import Update
from workers.command.fleet import Fleet, shown

NOW = 1_703_123_456_789
TASK: dict[str, Any] = {
    "taskId": "task_19ad0c1f3a2b1f2e3d4c5b6",
    "taskType": 2,
    "status": "PROCESSING",
    "gpuId": "gpu_001",
    "app": "face_swap_app",
    "userId": "user_001",
    "createdAt": NOW - 3_700_000,
    "startedAt": NOW - 200_000,
}
NODE: dict[str, Any] = {
    "gpuId": "gpu_001",
    "status": "ACTIVE",
    "currentTasks": 2,
    "maxConcurrentTasks": 4,
    "supportedTaskTypes": [2, 3, 4],
    "supportedTaskPriority": "VIP",
    "lastHeartbeat": NOW - 4000,
    "draining": True,
    "drain": {"remaining": 2, "reason": "更换风扇，机房三号柜，预计两小时后恢复，请勿派发新任务，谢谢配合"},
}


def lines(renderable: Any, width: int = 80, **more: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, force_terminal=True, **more)
    console.print(renderable)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def plain(renderable: Any, width: int = 80) -> list[str]:
    return [line.rstrip() for line in lines(renderable, width, color_system=None)]


def test_tasks() -> None:
    ended = TASK | {"status": "FAILED", "endReason": "CANCELLED", "completedAt": NOW - 100_000, "gpuId": None}
    assert plain(tables.tasks([TASK, ended], NOW)) == [
        "TASK                          TYPE  STATUS      NODE     AGE  TOOK   APP",
        "task_19ad0c1f3a2b1f2e3d4c5b6  2     PROCESSING  gpu_001  1 h  3 min  face_swap_…",
        "task_19ad0c1f3a2b1f2e3d4c5b6  2     CANCELLED   -        1 h  1 min  face_swap_…",
    ]


def test_nothing_is_wider_than_the_terminal_and_no_id_is_cut() -> None:
    wide = TASK | {"app": "应用" * 60, "gpuId": "gpu_" + "9" * 20}
    found = plain(tables.tasks([wide], NOW))
    assert TASK["taskId"] in found[1]
    found += plain(tables.nodes([NODE], NOW))
    assert max(map(cell_len, found)) <= 80
    assert len(found) == 4
    assert "2 left: 更换风扇" in found[3]


def test_elsewhere_nothing_is_cut() -> None:
    assert "谢谢配合" in plain(tables.nodes([NODE], NOW), width=tables.UNBOUNDED)[1]


def test_what_others_wrote_is_not_obeyed() -> None:
    evil = TASK | {"app": "[red]\x1b[31m\nx", "gpuId": ":bomb:"}
    text = "".join(lines(tables.tasks([evil], NOW), width=200))
    assert "[red]\\x1b[31m x" in text
    assert ":bomb:" in text


def test_one_task_with_what_it_has() -> None:
    found = plain(tables.task(TASK | {"result": '{"n": 1}', "payload": "中" * 100}, {"reason": "3 full"}))
    assert found[0] == "task     task_19ad0c1f3a2b1f2e3d4c5b6"
    assert any(line.startswith("started  2023-12-2") for line in found)
    assert "".join(found).count("中") == 100
    assert found[-1] == "waits    3 full"
    assert not any(line.startswith("ended") for line in found)


def fleet(nodes: int, types: int, events: int) -> Fleet:
    made = Fleet(
        "http://127.0.0.1:8080",
        {
            "gpu_status_counts": {"ACTIVE": 12, "OFFLINE": 2, "FAULTY": 1},
            "task_status_counts": {"QUEUED": 15, "PROCESSING": 8, "COMPLETED": 1156, "FAILED": 3, "TIMEOUT": 1},
            "queue_lengths": {str(number): number for number in range(types)},
        },
        {"overall_health": "DEGRADED"},
        [NODE] * nodes,
        nodes,
    )
    for _ in range(events):
        made.events.append(Update("task.ended", {"taskId": "task_1", "time": NOW, "data": {"endReason": "FAILED"}}))
    return made


def test_the_fleet_fits_its_screen() -> None:
    for height in (12, 24, 50):
        for made in (Fleet("http://x"), fleet(0, 0, 0), fleet(2, 2, 3), fleet(100, 100, 100)):
            found = plain(shown(made, height, NOW))
            assert max(map(cell_len, found)) <= 80
            assert len(found) <= max(height, 22)
    found = plain(shown(fleet(100, 100, 100), 30, NOW))
    assert found[0] == "DEGRADED  http://127.0.0.1:8080"
    assert max(map(len, lines(shown(fleet(1, 1, 1), 30, NOW), tables.UNBOUNDED, color_system=None))) < 200
    assert "1156 COMPLETED" in found[2]
    assert found[5].startswith("99    99          ━━━")
    assert "… 90 more" in "\n".join(found)
    assert found[-1].endswith("task.ended task_1 FAILED")
