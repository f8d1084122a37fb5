"""Why tasks wait, in a person's words (`Nodes.reason` of the API is only in English)."""

from __future__ import annotations

from api.console.page import Asked
from api.console.texts import N_
from infra.db.slots.capacity import Nodes

KINDS = {
    "other_type": N_("%(n)s run other types"),
    "vip_only": N_("%(n)s take VIP tasks only"),
    "barred": N_("%(n)s have rejected the task"),
    "full": N_("%(n)s full"),
    "free": N_("%(n)s free"),
    "faulty": N_("%(n)s faulty"),
    "offline": N_("%(n)s offline"),
    "draining": N_("%(n)s draining"),
    "resting": N_("%(n)s resting after failures"),
}
"""Words for the counts of `Nodes`."""


def reason(asked: Asked, nodes: Nodes, *, sees_nodes: bool) -> str:
    """The reason in one line; without numbers of nodes for people who see none."""
    serving = nodes.nodes - nodes.other_type
    if serving == 0:
        return asked._(N_("No node runs this type"))
    if not nodes.slots:
        kind = N_("Every node for this type is away") if sees_nodes else N_("No node is ready for this type")
        return _with_counts(asked, kind, nodes, sees_nodes)
    if nodes.free:
        return _with_counts(asked, N_("A slot is about to be assigned"), nodes, sees_nodes)
    return _with_counts(asked, N_("All slots for this type are taken"), nodes, sees_nodes)


def _with_counts(asked: Asked, text: str, nodes: Nodes, sees_nodes: bool) -> str:
    if not sees_nodes:
        return asked._(text)
    counts = [
        asked._(word) % {"n": n} for name, word in KINDS.items() if name != "other_type" and (n := getattr(nodes, name))
    ]
    return asked._(N_("%(reason)s: %(counts)s")) % {"reason": asked._(text), "counts": asked._(N_(", ")).join(counts)}
