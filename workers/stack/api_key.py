"""The bootstrap key of the stack: from the settings, or generated once and kept in the data directory."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from infra.data_dir.usable import explained, shown
from infra.environment.types import fits_a_header
from infra.settings import ENV_PREFIX
from workers import secret_file
from workers.stack.errors import StackError


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The key, and the place where a person finds it."""

    secret: SecretStr
    path: Path | None  # None: it came from ORCHESTRATOR_API_KEY
    is_new: bool = False
    is_dead: bool = False

    def describe(self) -> str:
        """One line for the console. It shows the key itself only if the key is new."""
        if self.is_dead:
            where = "ORCHESTRATOR_API_KEY: set" if self.path is None else f"{shown(self.path)}: remove the file for"
            return f"api key: another one has replaced that in {where} a new one, and start again"
        if self.path is None:
            return "api key: the one in ORCHESTRATOR_API_KEY"
        if self.is_new:
            return f"api key: {self.secret.get_secret_value()} (generated, shown this once, kept in {shown(self.path)})"
        return f"api key: in {shown(self.path)}"


def bootstrap_key(configured: SecretStr | None, path: Path) -> ApiKey:
    """The configured key; without one, the kept key; without that, a new key, which is kept. Raises StackError."""
    if configured is not None:
        return ApiKey(configured, None)
    with explained(path, f"{ENV_PREFIX}DATA_DIR"):
        is_new = not path.exists() and secret_file.create(path, secrets.token_urlsafe(32))
        key = secret_file.read(path)
    if not fits_a_header(key):
        advice = f"remove it for a new one, or set {ENV_PREFIX}API_KEY"
        raise StackError(f"{shown(path)} {'holds no key that can be sent' if key else 'is empty'}: {advice}")
    return ApiKey(SecretStr(key), path, is_new)


def forget_replaced(configured: ApiKey, path: Path) -> None:
    """Remove the kept key if a configured one has replaced it. The next start without a configured key makes a new
    one."""
    if configured.path is None and path.exists() and secret_file.read(path) != configured.secret.get_secret_value():
        path.unlink(missing_ok=True)
