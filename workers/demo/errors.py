"""The one way a demo fails with a reason to tell."""

from __future__ import annotations


class DemoFailed(Exception):
    """The demo did not show what it promises."""
