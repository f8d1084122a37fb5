"""Secrets that are none: what production mode refuses, as far as it can be told by looking."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, unquote, urlsplit

PLACEHOLDERS = ("changeme", "replaceme", "placeholder", "yourapikey", "yoursecret", "yourkey", "example", "insecure")
"""What stands in the examples of this world, in lower case and without anything between its letters."""
DEFAULTS = {"postgres", "password", "changeme", "redis", "foobared", "admin", "root", "default", "guest"}


def is_placeholder(secret: str) -> bool:
    """Whether a key is somebody's example."""
    letters = re.sub(r"[^a-z]", "", secret.lower())
    return any(word in letters for word in PLACEHOLDERS)


def has_default_password(url: str) -> bool:
    """Whether the password in a URL is one that everybody knows, or the user's name; one that is not there is not."""
    parts = urlsplit(url)
    password = unquote(parts.password or parse_qs(parts.query).get("password", [""])[-1])
    plain = re.sub(r"[^a-z0-9]", "", password.lower())
    return plain in DEFAULTS or (bool(password) and password == unquote(parts.username or ""))
