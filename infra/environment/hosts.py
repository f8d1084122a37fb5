"""Hosts as settings and URLs name them, checked without a look-up."""

from __future__ import annotations

import re
from ipaddress import ip_address

_NAME = re.compile(r"(?:(?!-)[\w-]+(?<!-)\.)*(?!-)[\w-]+(?<!-)\.?")


def checked(host: str) -> str:
    """The same host: an IP address, without brackets, or a name that can be looked up. Raises ValueError."""
    try:
        if ":" in host or re.fullmatch(r"(?:.*\.)?[0-9]+\.?", host):
            ip_address(host)
        elif not _NAME.fullmatch(host):
            raise ValueError
        host.encode("idna")  # raises UnicodeError, a ValueError, for what no name can be
    except ValueError:
        raise ValueError("must be an IP address or the name of a host") from None
    return host
