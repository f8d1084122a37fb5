"""What calls are made of: paths and keys. The command line imports it, and nothing else for its help."""

from __future__ import annotations

import os
from urllib.parse import quote


def path(folder: str, name: str, *more: str) -> str:
    """The path of one thing; its name is no path. Raises ValueError for a name that no thing has."""
    if name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no id")
    return "/".join(("", folder, quote(name, safe=""), *more))


def new_key() -> str:
    """An Idempotency-Key."""
    return os.urandom(16).hex()
