"""Secrets that protect nothing: what production mode refuses, as far as it can be recognised."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, unquote, urlsplit

PLACEHOLDERS = ("changeme", "replaceme", "placeholder", "yourapikey", "yoursecret", "yourkey", "example", "insecure")
"""Well-known example secrets, in lower case and without anything between their letters."""
DEFAULTS = {"postgres", "password", "changeme", "redis", "foobared", "admin", "root", "default", "guest"}


def is_placeholder(secret: str) -> bool:
    """Whether a key is a known example."""
    letters = re.sub(r"[^a-z]", "", secret.lower())
    return any(word in letters for word in PLACEHOLDERS)


def has_default_password(url: str) -> bool:
    """Whether the password in a URL is well known or the user's name. A missing password is neither."""
    parts = urlsplit(url)
    password = unquote(parts.password or parse_qs(parts.query).get("password", [""])[-1])
    plain = re.sub(r"[^a-z0-9]", "", password.lower())
    return plain in DEFAULTS or (bool(password) and password == unquote(parts.username or ""))
