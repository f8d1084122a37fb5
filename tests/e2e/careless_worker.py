"""A worker with changed workflow code and no guard: `python -m tests.e2e.careless_worker sleeps|raises`.

`sleeps`: one more step before what a workflow did before, as a careless change brings it: what is open can't be
replayed. `raises`: a bug in the first line of every workflow, the monitor's included.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from temporalio import workflow

from workers import cli
from workflows import steps
from workflows.gpu_health import GpuHealthWorkflow
from workflows.monitor import MonitorWorkflow
from workflows.task import TaskWorkflow

Step = Callable[..., Awaitable[Any]]


def sleeps(step: Step) -> Step:
    @wraps(step)
    async def changed(*arguments: Any) -> Any:
        await workflow.sleep(0.1)
        return await step(*arguments)

    return changed


def raises(step: Step) -> Step:
    @wraps(step)
    async def changed(*arguments: Any) -> Any:
        raise ValueError("a bug in a worker of the tests")

    return changed


CHANGED: dict[Callable[[Step], Step], list[tuple[Any, str]]] = {
    sleeps: [(steps, "dispatch"), (GpuHealthWorkflow, "_attend")],
    raises: [(TaskWorkflow, "_slot"), (GpuHealthWorkflow, "_attend"), (MonitorWorkflow, "run")],
}

if __name__ == "__main__":
    change = {"sleeps": sleeps, "raises": raises}[sys.argv[1]]
    for where, name in CHANGED[change]:
        setattr(where, name, change(getattr(where, name)))
    sys.exit(cli.main(["worker"]))
