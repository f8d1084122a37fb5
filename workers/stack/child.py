"""Turns itself into one part of the stack: `python -I -S child.py JSON PROGRAM ARGUMENT…`.

It is a step between fork and exec, because its work must happen in the child after its uid has changed (a change of uid
clears the death signal), and Python code between fork and exec is not safe in a process with threads. It keeps its pid:
`exec` replaces it by the part. It uses the standard library only, so that it costs some 20 ms.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522


class CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class CapabilityWord(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def main(specification: str, argv: list[str]) -> None:
    """Apply umask, user, capability and death signal, in this order, and become `argv`. Does not return."""
    spec = json.loads(specification)
    os.umask(spec["umask"])
    if spec["uid"] is not None:
        become(spec["uid"], spec["gid"], spec["capability"])
    if sys.platform == "linux":
        call("prctl", PR_SET_PDEATHSIG, spec["death_signal"])
        if os.getppid() != spec["parent"]:  # it died before the line above
            sys.exit(1)
    os.execv(argv[0], argv)  # nosec B606 # what this program is for


def become(uid: int, gid: int, capability: int | None) -> None:
    """Drop to another user for good, keeping at most one capability."""
    if capability is not None:
        # Keeps the capabilities over setuid, and makes access(2), which Postgres calls, respect them.
        call("prctl", PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if capability is not None:
        keep_only(capability)


def keep_only(capability: int) -> None:
    """Give up all capabilities except one, and let that one survive exec."""
    header = CapabilityHeader(LINUX_CAPABILITY_VERSION_3, 0)
    bit = 1 << capability
    call("capset", ctypes.byref(header), (CapabilityWord * 2)(CapabilityWord(bit, bit, bit), CapabilityWord(0, 0, 0)))
    call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)


def call(function: str, *arguments: object) -> None:
    """Call a C library function that returns -1 on error. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
