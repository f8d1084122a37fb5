"""`python -m tests.bench [--full] [--only NAME,…] [--aged N] [--waiting N]`.

Progress goes to standard error, the table and, last, one line of JSON to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from tests.bench import (
    ageing,
    batches,
    burst,
    console,
    fleet,
    hostile,
    latency,
    makespan,
    queue,
    reads,
    streams,
    waiting,
)
from tests.bench.figures import Figure, failure
from tests.bench.machine import Others, machine, versions
from tests.bench.plan import FULL, SHORT, Plan
from tests.bench.rig import Rig, running, say
from tests.bench.table import json_line, table

Measure = Callable[[Rig, Plan], Awaitable[list[Figure]]]

# Each group has a stack of its own. A node of the first measurement beats until the fleet's looks at its history.
GROUPS: tuple[dict[str, Measure], ...] = (
    {
        "latency": latency.measure,
        "burst": burst.measure,
        "makespan": makespan.measure,
        "reads": reads.measure,
        "fleet": fleet.measure,
    },
    {"queue": queue.measure, "batches": batches.measure},
    {"waiting": waiting.measure},
    {"ageing": ageing.measure},
    {"hostile": hostile.measure},
    {"streams": streams.measure},
    {"console": console.measure},
)
NAMES = [name for group in GROUPS for name in group]


def main() -> int:
    """Run the benchmarks. Returns 0 if everything was measured, whatever the figures, otherwise 1."""
    plan, chosen = _arguments()
    began = time.perf_counter()
    before: dict[str, Any] = {"machine": machine(), "versions": versions()}
    say(f"{plan.mode} mode; before, {before['machine']['busy_before']:.0%} of the machine was busy")
    others = Others()
    figures = asyncio.run(_measure_all(plan, chosen))
    before["machine"]["others_used"] = others.share()
    context = {
        "mode": plan.mode,
        "command": shlex.join(["python", "-m", "tests.bench", *sys.argv[1:]]),
        "seconds": round(time.perf_counter() - began),
        **before,
    }
    _print(figures, context)
    return int(any(figure.failed for figure in figures))


def _arguments() -> tuple[Plan, list[str]]:
    about = "Measure the system and its references."
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=about)
    parser.add_argument("--full", action="store_true", help="more of everything")
    parser.add_argument("--only", metavar="NAME,…", help=f"some of: {', '.join(NAMES)}")
    parser.add_argument("--aged", type=int, metavar="N", help="tasks that age in each round of ageing")
    parser.add_argument("--waiting", type=int, metavar="N", help="tasks that wait while the idle stack is measured")
    args = parser.parse_args()
    chosen = args.only.split(",") if args.only else NAMES
    if unknown := set(chosen) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    plan = FULL if args.full else SHORT
    aged, waits = args.aged or plan.aged_tasks, args.waiting or plan.waiting_tasks
    return replace(plan, aged_tasks=aged, waiting_tasks=waits), chosen


async def _measure_all(plan: Plan, chosen: list[str]) -> list[Figure]:
    figures: list[Figure] = []
    for group in GROUPS:
        wanted = {name: measure for name, measure in group.items() if name in chosen}
        if wanted:
            figures += await _measure_group(wanted, plan)
    return figures


async def _measure_group(group: dict[str, Measure], plan: Plan) -> list[Figure]:
    figures: list[Figure] = []
    try:
        async with running() as rig:
            for name, measure in group.items():
                figures += await _measure_one(name, measure, rig, plan)
    except Exception as error:  # noqa: BLE001  a stack that does not come up fails its group, not the others
        say(f"the stack failed: {error!r}")
        figures.append(failure(f"the stack of {', '.join(group)}", error))
    return figures


async def _measure_one(name: str, measure: Measure, rig: Rig, plan: Plan) -> list[Figure]:
    say(f"{name} …")
    began = time.perf_counter()
    try:
        return await measure(rig, plan)
    except Exception as error:  # noqa: BLE001  it fails alone
        traceback.print_exc()
        return [failure(name, error)]
    finally:
        say(f"{name}: {time.perf_counter() - began:.0f} s")


def _print(figures: list[Figure], context: dict[str, Any]) -> None:
    where, missed = context["machine"], sum(figure.met is False for figure in figures)
    sys.stdout.write(f"{where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB; {context['mode']} mode\n\n")
    sys.stdout.write(
        f"{table(figures)}\n\n{missed} of {sum(figure.met is not None for figure in figures)} targets missed\n"
    )
    sys.stdout.write(json_line(figures, **context) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
