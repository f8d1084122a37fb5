"""Where the API is and whose key is used: the environment, or the file that `login` keeps.

The file is believed only if it belongs to the user and nobody else may read it. Its key is sent to its URL only.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from gpu_orchestrator_client.naming import APP, KEY, URL, USER, is_local, key_of, url_of

MOST = 64 * 1024
"""Bytes of the file."""


class NotSignedIn(Exception):
    """There is no usable profile; the text says what to do."""


@dataclass(frozen=True)
class Profile:
    """`user` and `app` are those of tasks for which the command line names none."""

    url: str
    key: str
    user: str | None = None
    app: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether the API is on this machine."""
        return is_local(self.url)

    @property
    def is_in_clear(self) -> bool:
        """Whether the key travels unencrypted over a network."""
        return self.url.startswith("http://") and not self.is_local


def path() -> Path:
    """The file, in the user's folder for settings."""
    from platformdirs import user_config_path

    return user_config_path("gpu-orchestrator", appauthor=False) / "profile.json"


def current() -> Profile:
    """The profile from the environment, or from the file. Raises NotSignedIn."""
    url, key = os.environ.get(URL), os.environ.get(KEY)
    try:
        url, key = url and url_of(url), key and key_of(key)
    except ValueError as error:
        raise NotSignedIn(f"{URL} or {KEY}: {error}") from None
    user, app = os.environ.get(USER), os.environ.get(APP)
    if url and key:
        return Profile(url, key, user, app)
    kept = read(path())
    if kept is None:
        missing = " and ".join(name for name, value in ((URL, url), (KEY, key)) if not value)
        raise NotSignedIn(f"no server is configured: gpu-orchestrator login URL, or set {missing}")
    if url and url != kept.url:
        raise NotSignedIn(
            f"the kept key is for {kept.url}, not for {url}: set {KEY} too, or gpu-orchestrator login {url}"
        )
    return Profile(kept.url, key or kept.key, user or kept.user, app or kept.app)


def read(file: Path) -> Profile | None:
    """The kept profile, or None. Raises NotSignedIn if it can't be trusted or read."""
    try:
        opened = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotSignedIn(f"{file}: {error.strerror}") from None
    try:
        _check(file, os.fstat(opened))
        content = os.read(opened, MOST)
    finally:
        os.close(opened)
    try:
        found = json.loads(content)
        return Profile(url_of(found["url"]), key_of(found["key"]), found.get("user"), found.get("app"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NotSignedIn(f"{file} can't be read: gpu-orchestrator login writes a new one") from None


def _check(file: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NotSignedIn(f"{file} is not a regular file: remove it, then gpu-orchestrator login")
    if found.st_uid != os.geteuid():
        raise NotSignedIn(
            f"{file} belongs to another user (uid {found.st_uid}): remove it, then gpu-orchestrator login"
        )
    if found.st_mode & 0o077:
        raise NotSignedIn(
            f"{file} can be read or changed by others (mode {stat.S_IMODE(found.st_mode):04o}): its key may be known."
            f" Revoke it, or chmod 600 it if nobody else uses this machine"
        )


def write(profile: Profile, file: Path) -> None:
    """Keep it, readable only by its user. Raises OSError."""
    from workers import secret_file

    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = json.dumps({name: value for name, value in asdict(profile).items() if value is not None})
    secret_file.replace(file, content)
