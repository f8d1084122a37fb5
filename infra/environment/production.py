"""The demands of production mode, and the secrets that it refuses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from infra.environment.variables import ENV_PREFIX

ADDRESSES = ("database_url", "redis_url", "temporal_address")
LEAST_KEY = 32
PLACEHOLDERS = ("changeme", "replaceme", "placeholder", "yourapikey", "yoursecret", "yourkey", "example", "insecure")
"""Well-known example secrets, in lower case and without anything between their letters."""
DEFAULTS = {"postgres", "password", "changeme", "redis", "foobared", "admin", "root", "default", "guest"}


def check(api_key: SecretStr | None, addresses: Mapping[str, str | None]) -> None:
    """Raise ValueError for what is missing, and for a secret that is short or well known; the text names its setting.

    `addresses` are those of `ADDRESSES`.
    """
    missing = [name for name, value in {"api_key": api_key, **addresses}.items() if value is None]
    if api_key is None or missing:
        raise ValueError(f"production mode needs {', '.join(ENV_PREFIX + name.upper() for name in missing)}")
    if len(api_key.get_secret_value()) < LEAST_KEY:
        raise ValueError(f"production mode needs a {ENV_PREFIX}API_KEY of at least {LEAST_KEY} characters")
    if _is_placeholder(api_key.get_secret_value()):
        raise ValueError(f"production mode needs a {ENV_PREFIX}API_KEY that is not a placeholder")
    for name, address in addresses.items():
        if _has_default_password(address or ""):
            raise ValueError(f"production mode needs another password in {ENV_PREFIX}{name.upper()}")


def _is_placeholder(secret: str) -> bool:
    """Whether a key is a known example."""
    letters = re.sub(r"[^a-z]", "", secret.lower())
    return any(word in letters for word in PLACEHOLDERS)


def _has_default_password(url: str) -> bool:
    """Whether the password in a URL is well known or the user's name. A missing password is neither."""
    parts = urlsplit(url)
    password = unquote(parts.password or parse_qs(parts.query).get("password", [""])[-1])
    plain = re.sub(r"[^a-z0-9]", "", password.lower())
    return plain in DEFAULTS or (bool(password) and password == unquote(parts.username or ""))
