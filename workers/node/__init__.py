"""The reference node agent. A handler imports `BadInput` from here, which costs it nothing else."""

from __future__ import annotations


class BadInput(Exception):
    """Raised by a handler whose input can never work. The reason is shown to those who read how the task ended."""
