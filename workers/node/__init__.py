"""The reference node agent. A handler imports `BadInput` from here, which costs it nothing else."""

from __future__ import annotations


class BadInput(Exception):
    """What a handler raises where its input can never work, with the reason for whoever reads the task's end."""
