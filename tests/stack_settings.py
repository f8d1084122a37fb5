"""The settings of the stacks of tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.settings import Settings
from workers.stack.ports import free_port

GRACE_S = 3.0


def stack_settings(data_dir: Path, **more: Any) -> Settings:
    """A stack of the tests: all embedded, on free ports, and in a hurry."""
    chosen: dict[str, Any] = {
        "data_dir": data_dir,
        "port": free_port(),
        "temporal_port": free_port(),
        "temporal_ui_port": free_port(),
        "heartbeat_timeout": GRACE_S,
        "monitor_interval": 5,
        "webhook_networks": "127.0.0.0/8",
        "webhook_retries": (0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 2.2),
        "task_types": {901: {"timeout": 1000, "maxRetries": 0}, 902: {"maxRetries": 1}},
    }
    return Settings(**chosen | more)
