"""Finding free TCP ports, and refusing taken ones by the name of the setting that chose them."""

from __future__ import annotations

import errno
import socket

from workers.stack.errors import PortTaken, StackError


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on. It is not held: use it soon."""
    with socket.create_server((host, 0)) as server:
        return int(server.getsockname()[1])


def require_free(host: str, port: int, setting: str) -> None:
    """Check that a server could listen there; `setting` is the environment variable that chose the port.

    Raises PortTaken, or StackError when the host or port cannot be used at all.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, port, setting) from error
        raise StackError(f"cannot listen on {host} port {port} ({error.strerror}): change {setting}") from error
