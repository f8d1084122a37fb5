"""May this node take this task? The one definition, in SQL fragments.

A node takes a task that it `takes`, while it `has_free_slot`, and unless it is `barred`. `node` is the alias of a row
of `gpus`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from infra.db import clock, holding
from infra.db.queue import order
from infra.db.tasks.new_task import NewTask
from workflows.domain.queue_policy import QueuePolicy


class Row(Protocol):
    """A task with the properties of `Wanted`."""

    @property
    def task_type(self) -> int: ...
    @property
    def vip(self) -> bool: ...
    @property
    def barred_on(self) -> Collection[str]: ...


@dataclass(frozen=True)
class Wanted:
    """The properties of a task that decide which nodes take it; `vip`: by its own priority."""

    task_type: int
    vip: bool
    barred_on: frozenset[str] = frozenset()

    @classmethod
    def of(cls, row: Row) -> Wanted:
        """The properties of a task."""
        return cls(row.task_type, row.vip, frozenset(row.barred_on))

    @classmethod
    def of_new(cls, task: NewTask) -> Wanted:
        """The properties of a new task, which no node has rejected."""
        return cls(task.task_type, task.queue_class > 0)

    def parameters(self, policy: QueuePolicy) -> dict[str, object]:
        """The parameters of `GIVEN`."""
        vip_nodes = policy.on_vip_nodes(vip=self.vip)
        return {"task_type": self.task_type, "vip_nodes": vip_nodes, "barred_on": list(self.barred_on)}


class Task(NamedTuple):
    """The properties of a task that decide which nodes take it, as SQL."""

    task_type: str
    on_vip_nodes: str
    """Whether VIP nodes serve it too (`QueuePolicy.on_vip_nodes`)."""
    barred_on: str

    @classmethod
    def of_row(cls, task: str) -> Task:
        """The task of a row of `tasks` by its alias; `strict` is a parameter, the policy's `vip_nodes_strict`."""
        return cls(f"{task}.task_type", f"{order.vip(task)} OR NOT %(strict)s", f"{task}.barred_on")


GIVEN = Task("%(task_type)s", "%(vip_nodes)s", "CAST(%(barred_on)s AS text[])")
"""A task whose properties are parameters (`Wanted.parameters`)."""


def may_work(node: str) -> str:
    """The node is registered and not draining, whatever its status."""
    return f"{node}.gone_at IS NULL AND {node}.drained_at IS NULL"


def works(node: str) -> str:
    """The node is ACTIVE as well; it may rest or be full."""
    return f"{node}.status = 'ACTIVE' AND {may_work(node)}"


def gets_work(node: str) -> str:
    """The node does not rest either; it may be full."""
    return f"{works(node)} AND NOT {rests(node)}"


def has_free_slot(node: str, n: str | None = None) -> str:
    """The node gets work, and is not full; `n`: its used slots, where they are known."""
    return f"{gets_work(node)} AND {n or used(node)} < {slots(node)}"


def rests(node: str) -> str:
    """The node gets nothing for now."""
    return clock.rests(f"{node}.not_before")


def state(node: str) -> str:
    """The node's state: faulty, offline, draining, resting, or free (it gets work, but may be full)."""
    return f"""CASE WHEN {node}.status <> 'ACTIVE' THEN lower({node}.status) WHEN NOT ({may_work(node)}) THEN 'draining'
                WHEN {rests(node)} THEN 'resting' ELSE 'free' END"""


def rest_s(node: str) -> str:
    """Seconds until it gets something; 0 if it does not rest."""
    return f"CASE WHEN {rests(node)} THEN extract(epoch FROM {node}.not_before - {clock.NOW})::float ELSE 0 END"


def slots(node: str) -> str:
    """The node's slots; one while it runs probes (workflows.domain.node_record)."""
    return f"CASE WHEN {node}.rests > 0 THEN 1 ELSE {node}.max_concurrent_tasks END"


def used(node: str) -> str:
    """The node's slots that attempts hold."""
    return f"(SELECT count(*) FROM attempts a WHERE a.gpu_id = {node}.gpu_id AND {holding.holds('a')})"


def runs(node: str, task_type: str) -> str:
    """The node supports the type."""
    return f"{node}.task_types @> ARRAY[CAST({task_type} AS bigint)]"


def vip_only(node: str, task: Task) -> str:
    """The node takes VIP tasks only, and the task is none."""
    return f"({node}.priority_queue = 'VIP' AND NOT ({task.on_vip_nodes}))"


def serves(node: str, task: Task) -> str:
    """The node takes the task if it runs its type."""
    return f"NOT {vip_only(node, task)}"


def takes(node: str, task: Task) -> str:
    """The node takes such tasks, whether or not it gets work now."""
    return f"{runs(node, task.task_type)} AND {serves(node, task)}"


def another_could_take(task: Task, but: str) -> str:
    """A node other than those in the array `but` works and takes such tasks; it may rest or be full."""
    return f"EXISTS (SELECT FROM gpus o WHERE {works('o')} AND {takes('o', task)} AND o.gpu_id <> ALL ({but}))"


def barred(node: str, task: Task) -> str:
    """The node has rejected the task, or answered outside of the protocol, and another one could take it."""
    return f"({node}.gpu_id = ANY ({task.barred_on}) AND {another_could_take(task, task.barred_on)})"
