"""Finding free TCP ports, and refusing taken ones with the name of the setting that chose them."""

from __future__ import annotations

import atexit
import errno
import socket
import sys

from infra.settings import ENV_PREFIX
from workers.stack.errors import CannotListen, PortTaken


def free_port() -> int:
    """A port that no process listens on. While this process lives no other caller gets it, and no outgoing connection.

    A socket holds it that is bound and does not listen. Linux lets a server with SO_REUSEADDR, as every server sets it,
    bind to it all the same. Elsewhere the port is not held, so use it soon.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port = int(holder.getsockname()[1])
    if sys.platform == "linux":
        atexit.register(holder.close)
    else:
        holder.close()
    return port


def require_free(host: str, port: int, setting: str) -> None:
    """Check that a server could listen there; `setting` is the environment variable that chose the port.

    Raises PortTaken, or CannotListen if the host or port cannot be used at all.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host=host, port=port, setting=setting) from error
        both = f"{ENV_PREFIX}HOST or {setting}" if setting == f"{ENV_PREFIX}PORT" else setting
        reason = str(error.strerror or error).partition(" (while")[0]
        raise CannotListen(host=host, port=port, reason=reason, setting=both) from error
