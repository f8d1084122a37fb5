"""Python's collector of reference cycles, for programs that serve for weeks."""

from __future__ import annotations

import gc

EVERY = 10_000
"""New objects between two collections; Python's 700 is for programs that hold few objects."""


def leave_out_what_is_loaded() -> None:
    """Let the collector pass over everything that is loaded: modules, routes and models stay for good."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(EVERY, 20, 20)
