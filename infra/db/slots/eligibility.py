"""May this node take this task? The one definition, in SQL fragments.

`node` and `task` are aliases of rows of `gpus` and `tasks`, or, for a task that a caller describes, parameters.
`strict` is the policy's `vip_nodes_strict`: whether VIP nodes serve VIP tasks alone.
"""

from __future__ import annotations

from infra.db import clock, holding

VIP = "{task}.queue_class > 0 AND {task}.promoted_at IS NULL"
"""By its own priority, not by age."""


def works(node: str) -> str:
    """The node is ACTIVE, registered and not draining; it may rest or be full."""
    return f"{node}.status = 'ACTIVE' AND {node}.gone_at IS NULL AND {node}.drained_at IS NULL"


def rests(node: str) -> str:
    """The node gets nothing for now."""
    return clock.rests(f"{node}.not_before")


def rest_s(node: str) -> str:
    """Seconds until it gets something; 0 if it does not rest."""
    return f"CASE WHEN {rests(node)} THEN extract(epoch FROM {node}.not_before - {clock.NOW})::float ELSE 0 END"


def slots(node: str) -> str:
    """Its slots; one while it runs probes (workflows.domain.node_record)."""
    return f"CASE WHEN {node}.rests > 0 THEN 1 ELSE {node}.max_concurrent_tasks END"


def used(node: str) -> str:
    """Its slots that attempts hold."""
    return f"(SELECT count(*) FROM attempts a WHERE a.gpu_id = {node}.gpu_id AND {holding.holds('a')})"


def runs(node: str, task_type: str) -> str:
    """It supports the type."""
    return f"{node}.task_types @> ARRAY[CAST({task_type} AS bigint)]"


def serves(node: str, vip: str) -> str:
    """It serves the class of the task; `vip` says whether that is VIP by its own priority."""
    return serves_those(node, f"{vip} OR NOT %(strict)s")


def serves_those(node: str, on_vip_nodes: str) -> str:
    """It serves tasks of which `on_vip_nodes` says whether VIP nodes serve them too (`QueuePolicy.on_vip_nodes`)."""
    return f"({node}.priority_queue = 'NORMAL' OR {on_vip_nodes})"


def another_could_take(task_type: str, vip: str, but: str) -> str:
    """A node other than those in the array `but` works and serves such tasks; it may rest or be full."""
    return (
        f"EXISTS (SELECT FROM gpus o WHERE {works('o')} AND {runs('o', task_type)} AND {serves('o', vip)}"
        f" AND o.gpu_id <> ALL ({but}))"
    )


def barred(node: str, task_type: str, vip: str, barred_on: str) -> str:
    """The node has rejected the task, or answered outside of the protocol, and another one could take it."""
    return f"({node}.gpu_id = ANY ({barred_on}) AND {another_could_take(task_type, vip, barred_on)})"
