"""Addresses, paths and keys of calls. For its help the command line imports this module only."""

from __future__ import annotations

import os
import re
from urllib.parse import quote, urlsplit

URL, KEY = "GPU_ORCHESTRATOR_URL", "GPU_ORCHESTRATOR_KEY"
USER, APP = "GPU_ORCHESTRATOR_USER", "GPU_ORCHESTRATOR_APP"
BASE = "/api/v2"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def url_of(text: str) -> str:
    """An address of the API, without its path. Raises ValueError."""
    given = text.strip().rstrip("/").removesuffix(BASE)
    try:
        parts = urlsplit(given)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not re.fullmatch(r"[!-~]+", given):
        raise ValueError(f"{text!r} is not a URL like https://gpu.example.com")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("the API's URL must not have a user, query or fragment")
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def key_of(text: str) -> str:
    """A key as it was pasted. Raises ValueError."""
    if not re.fullmatch(r"[!-~]{1,512}", text.strip()):
        raise ValueError("key must be 1 to 512 printable ASCII characters without spaces")
    return text.strip()


def is_local(url: str) -> bool:
    """Whether an address is on this machine."""
    return urlsplit(url).hostname in LOOPBACK


def path(folder: str, name: str, *more: str) -> str:
    """The path of one thing; its name is no path. Raises ValueError for a name that no thing has."""
    if name in ("", ".", ".."):
        raise ValueError(f"invalid id: {name!r}")
    return "/".join(("", folder, quote(name, safe=""), *more))


def new_key() -> str:
    """An Idempotency-Key."""
    return os.urandom(16).hex()
