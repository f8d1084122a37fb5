"""The console's pages, in the order of the rail. Each is a module with a `PAGE`, and a template of its name."""

from __future__ import annotations

from api.console.page import Page
from api.console.pages import alerts, fleet, node, now, system

PAGES: tuple[Page, ...] = (
    now.PAGE,
    fleet.PAGE,
    node.PAGE,
    alerts.PAGE,
    system.PAGE,
)
