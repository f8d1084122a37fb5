"""The account Postgres runs under: it refuses to run as root.

For an ordinary user, Postgres runs as that user. For root (a container, a fresh machine), it runs as the system account
`gpu-orchestrator`, made on first use, or as `nobody` if none can be made. That account owns the database folder, mode
0700, and nothing else.

The account must also be able to *reach* that folder and Postgres' own files in the virtual environment, which may lie
below a folder closed to others, like /root. Opening such a folder (chmod o+x, as pixeltable does) would change the
user's own files for everybody; copying would mean 40 MB and a second place for data. So if, and only if, a folder on
the way is closed, Postgres keeps one capability: CAP_DAC_READ_SEARCH, "pass any folder, read any file" (or
CAP_DAC_OVERRIDE if a container grants only that one). Nothing on disk changes, and it ends with the process. Only root
and that account can connect to this Postgres, as its socket is in a folder of mode 0700.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from workers.stack.errors import StackError

ACCOUNT = "gpu-orchestrator"
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_SETPCAP = 1, 2, 8


@dataclass(frozen=True, slots=True)
class Account:
    """A user to run a part as, with the one capability it keeps."""

    uid: int
    gid: int
    capability: int | None = None


def unprivileged_account(needs: Iterable[Path]) -> Account | None:
    """The account for a program that refuses root and needs these paths, or None to run it as ourselves.

    Raises StackError if the account could not reach a path.
    """
    if os.geteuid() != 0:
        return None
    entry = _entry()
    closed = [folder for path in needs for folder in _closed_folders(path, entry.pw_uid)]
    return Account(entry.pw_uid, entry.pw_gid, _capability_to_pass(closed[0]) if closed else None)


def _entry() -> pwd.struct_passwd:
    """The entry of our account, which is made if it is missing; that of nobody if it cannot be made."""
    useradd = shutil.which("useradd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if useradd and not _exists(ACCOUNT):
        options = ("--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent")
        command = [useradd, *options, "--shell", "/bin/false", ACCOUNT]
        subprocess.run(command, capture_output=True, check=False)  # nosec B603 # constants but for where useradd is
    return pwd.getpwnam(ACCOUNT if _exists(ACCOUNT) else "nobody")


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _closed_folders(path: Path, uid: int) -> list[Path]:
    """The folders on the way to `path`, including itself, that a user cannot pass."""
    way = [folder for folder in (path, *path.parents) if folder.is_dir()]
    return [folder for folder in way if not _may_pass(folder.stat(), uid)]


def _may_pass(entry: os.stat_result, uid: int) -> bool:
    return bool(entry.st_mode & (stat.S_IXUSR if entry.st_uid == uid else stat.S_IXOTH))


def _capability_to_pass(folder: Path) -> int:
    """The narrowest capability we hold that passes closed folders. Raises StackError."""
    held = _held_capabilities()
    for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
        if {capability, CAP_SETPCAP} <= held:
            return capability
    raise StackError(
        f"Postgres refuses to run as root, and other users cannot pass {folder}: "
        "use a checkout and an ORCHESTRATOR_DATA_DIR that they can reach, or set ORCHESTRATOR_DATABASE_URL"
    )


def _held_capabilities() -> set[int]:
    """The numbers of this process's capabilities; empty on systems without them."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except FileNotFoundError:
        return set()
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    mask = int(match[1], 16) if match else 0
    return {bit for bit in range(mask.bit_length()) if mask >> bit & 1}
