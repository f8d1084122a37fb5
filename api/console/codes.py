"""Codes of the system in words: its parts that act, why a webhook is disabled, why a delivery got no answer."""

from __future__ import annotations

from api.console.texts import N_
from infra.db.access.audit import SYSTEM
from workflows.domain.system_actor import SystemActor

PARTS = {
    SystemActor.WORKFLOW: N_("by the task's workflow"),
    SystemActor.PERSON: N_("by a person in Temporal"),
    SystemActor.LIMITS: N_("at the task's limit"),
    SystemActor.DRAIN: N_("at the deadline of the drain"),
    SystemActor.NODE_WORKFLOW: N_("by the node's workflow"),
    SystemActor.RECONCILER: N_("by the reconciler"),
}
"""Actors in a task's timeline, besides keys and nodes."""
OWNERS = {SYSTEM: N_("The system itself"), SystemActor.PERSON: N_("A person in Temporal")}
"""Owners in the audit log that are no owners of keys, besides the command line."""
DISABLED = {
    "410": N_("The receiver has said that it is gone (HTTP 410)"),
    "KEY": N_("Its owner has no valid key any more"),
    "TEMPORAL": N_("Its workflow was cancelled in Temporal"),
}
"""Why a webhook is disabled."""
TROUBLES = {
    "URL": N_("The address is not possible"),
    "ADDRESS": N_("The receiver may not be at this address"),
    "NAME": N_("The name of the receiver has no address"),
    "TLS": N_("No TLS connection"),
    "CONNECTION": N_("No connection"),
    "TIMEOUT": N_("No answer in time"),
    "EVENT": N_("The event is no longer kept"),
    "ERROR": N_("An error of the system: see its log"),
}
"""Why a try of a delivery got no answer."""


def word(codes: dict[str, str], code: str) -> str:
    """The words for a code, to be translated; of a code that is unknown here itself."""
    return codes.get(code, code)
