"""The names of our environment variables. Imports little, because the node agent imports it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ENV_PREFIX = "ORCHESTRATOR_"
AGENT_PREFIX = f"{ENV_PREFIX}NODE_"
_AGENT = """
ADVERTISE_IP ADVERTISE_PORT API CA_FILE COMMAND DEREGISTER_ON_EXIT DRAIN_TIMEOUT GPU_ID HANDLER HEARTBEAT_INTERVAL HOST
HOSTNAME KEY KEY_FILE LOG_LEVEL PORT PRIORITY RUN_AS SLOTS STATE_DIR VAST_ID
"""
AGENT = frozenset(AGENT_PREFIX + name for name in _AGENT.split())
"""Variables that `gpu-orchestrator node` reads."""
PUBLISH = f"{ENV_PREFIX}PUBLISH"
"""The variable that only docker-compose.yml reads."""
NODE_SETTINGS = frozenset({f"{AGENT_PREFIX}NETWORKS", f"{AGENT_PREFIX}PORTS"})
"""Variables of the orchestrator that have the agent's prefix."""


def warnings(environ: Iterable[str], prefix: str, known: Iterable[str]) -> list[str]:
    """A line for each variable with the prefix that nothing reads."""
    known = frozenset(known)
    unread = sorted(name for name in environ if name.upper().startswith(prefix) and name.upper() not in known)
    return [f"warning: {name} is no setting{_meant(name.upper(), known)}\n" for name in unread]


def _meant(name: str, known: Iterable[str]) -> str:
    names = {each.removeprefix(ENV_PREFIX): each for each in known}
    similar = difflib.get_close_matches(name.removeprefix(ENV_PREFIX), names, 1, 0.75)
    return f": is {names[similar[0]]} meant?" if similar else ""
