"""The files that this process may open at the same time; sockets count as files."""

from __future__ import annotations

import resource


def raised_to(wanted: int) -> int:
    """Raise the soft limit to `wanted` files, as far as the hard limit allows. Returns the soft limit, or `wanted` if
    there is none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
