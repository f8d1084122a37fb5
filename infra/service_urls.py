"""The addresses of Postgres, Redis and Temporal as somebody has set them: checked without a connection.

Each check raises ValueError, whose text never holds the address: there may be a password in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

PORTS = range(1, 65536)
_SCHEME = re.compile(r"(?:postgres|postgresql)(?:\+psycopg)?://")
_HOST_AND_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s/@:\[\]]+):([0-9]{1,5})", re.ASCII)


def postgres(url: str) -> str:
    """The URL in the form that SQLAlchemy and libpq both take. Raises ValueError."""
    if not _SCHEME.match(url):
        raise ValueError("must be an address like postgresql://user@host:5432/database")
    plain = url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres://") else url
    _refuse_blanks(plain)
    _built(lambda: _check_postgres(plain))
    return plain


def redis(url: str) -> str:
    """The same URL. Raises ValueError."""
    if not re.match(r"rediss?://([^/?]|/?\?host=.)|unix://[^/]*/.", url):
        raise ValueError("must be an address like redis://host:6379/0, rediss://host or unix:///path")
    _refuse_blanks(url)
    _built(lambda: _check_redis(url))
    return url


def temporal(address: str) -> str:
    """The same address. Raises ValueError."""
    found = _HOST_AND_PORT.fullmatch(address)
    if found is None or int(found[1]) not in PORTS:
        raise ValueError("must be host:port, without a scheme, its port from 1 to 65535")
    return address


def _refuse_blanks(url: str) -> None:
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("holds a blank or a control character")


def _check_postgres(url: str) -> None:
    from psycopg.conninfo import make_conninfo
    from sqlalchemy import make_url
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    parsed = make_url(url)
    options = PGDialect_psycopg().create_connect_args(parsed)[1]  # type: ignore[no-untyped-call]
    make_conninfo(**options)
    ports = [port for port in str(options.get("port", "")).split(",") if port]
    if (
        not options
        or parsed.port == 0
        or "[" in str(options.get("host"))
        or not all(port.isdecimal() and int(port) in PORTS for port in ports)
    ):
        raise ValueError


def _check_redis(url: str) -> None:
    from redis.asyncio import ConnectionPool

    ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
    parts = urlsplit(url)
    if parts.scheme != "unix" and (parts.port == 0 or not re.fullmatch(r"(/[0-9]*)?", parts.path)):
        raise ValueError


def _built(build: Callable[[], None]) -> None:
    """Whatever the library raises, with its own words left out: they may quote the address."""
    try:
        build()
    except Exception as error:
        raise ValueError("has a part that can't be used: look at its host, its port and its options") from error
