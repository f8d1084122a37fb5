"""What calls are made of."""

from __future__ import annotations

import os
from urllib.parse import quote


def path(*parts: str) -> str:
    """A path of the API; its parts as a user has typed them."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def new_key() -> str:
    """An Idempotency-Key."""
    return os.urandom(16).hex()
