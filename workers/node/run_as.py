"""The user that work runs as (`--run-as`)."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from workers.node.errors import BadOption


@dataclass(frozen=True)
class User:
    """An account of this machine, with the groups that it has itself."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @property
    def credentials(self) -> str:
        """Credentials for the supervisor: uid, gid, groups."""
        return " ".join(map(str, (self.uid, self.gid, *self.groups)))

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the user, which replace the agent's."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


def find_user(name: str) -> User:
    """Raises BadOption."""
    if os.geteuid() != 0:
        raise BadOption("--run-as: only root can run work as another user")
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise BadOption(f"--run-as: there is no user {name!r}") from None
    if entry.pw_uid == 0:
        raise BadOption("--run-as: a user other than root is needed")
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)
