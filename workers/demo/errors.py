"""The error of a demo that fails with a reason."""

from __future__ import annotations


class DemoFailed(Exception):
    """The demo did not show what it claims."""
