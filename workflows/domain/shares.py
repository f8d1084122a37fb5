"""The share of the queue that a task takes: that of its key's owner, or that of its app.

Otherwise an owner could name a new app for each task, and get a share for each. A key that acts for others is trusted
to name its apps, as it is to name its users.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from workflows.domain.role import Role

DEFAULT_WEIGHT = 1.0
"""The weight of a flow whose app has none of its own."""


def flow_of(role: Role, owner: str, *, acts_for_others: bool) -> str | None:
    """The flow of the tasks of a key, or None if each task belongs to its app's flow (`named`)."""
    return f"owner:{owner}" if role is Role.USER and not acts_for_others else None


def named(flow: str | None, app: str) -> str:
    """The name of a task's flow; an owner and an app never share one. The queue's index has the same expression."""
    return f"app:{app}" if flow is None else flow


def counts_as_app(flow: str | None, app: str, granted: Container[str] | None) -> bool:
    """Whether the weight of the app counts: an owner's flow has it only where the key was granted that app."""
    return flow is None or (granted is not None and app in granted)


def weight(flow: str | None, app: str, granted: Container[str] | None, of_app: Callable[[str], float]) -> float:
    """The weight of a flow, by the weights that the apps were given."""
    return of_app(app) if counts_as_app(flow, app, granted) else DEFAULT_WEIGHT
