"""The console's pages, in the order of the rail. Each is a module with a `PAGE`, and a template of its name."""

from __future__ import annotations

from api.console.page import Page
from api.console.pages import (
    alerts,
    audit,
    failures,
    fleet,
    keys,
    node,
    now,
    queue,
    system,
    task,
    tasks,
    webhook,
    webhooks,
)

PAGES: tuple[Page, ...] = (
    now.PAGE,
    fleet.PAGE,
    node.PAGE,
    queue.PAGE,
    tasks.PAGE,
    task.PAGE,
    failures.PAGE,
    alerts.PAGE,
    webhooks.PAGE,
    webhook.PAGE,
    keys.PAGE,
    audit.PAGE,
    system.PAGE,
)
