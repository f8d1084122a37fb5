"""Checks of the addresses of Postgres, Redis and Temporal, without a connection.

Each raises ValueError. Its text never holds the address, which may contain a password.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from infra.environment import hosts

PORTS = range(1, 65536)
_SCHEME = re.compile(r"(?:postgres|postgresql)(?:\+psycopg)?://")
_HOST_AND_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]+)):([0-9]{1,5})")
_NOWHERE = {"host": "/dev/null", "hostaddr": "", "port": "1", "gssencmode": "disable"}
"""A connection here fails at once, after libpq has checked all other options."""
_CUT_OFF = b"/dev/null/.s.PGSQL.1"

_Check = Callable[[str], object]
"""Raises an error of any kind, or returns something false, for a value that can't be used."""


def postgres(url: str) -> str:
    """The URL in the form that SQLAlchemy and libpq both take. Raises ValueError."""
    if not _SCHEME.match(url):
        raise ValueError("must be an address like postgresql://user@host:5432/database")
    plain = url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres://") else url
    _refuse_blanks(plain)
    _built(lambda: _check_postgres(plain), ", and at the variables PG…")
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
    if found is None or int(found[3]) not in PORTS or (found[1] and ":" not in found[1]):
        raise ValueError("must be host:port, without a scheme, its port from 1 to 65535")
    hosts.checked(found[1] or found[2])
    return address


def _refuse_blanks(url: str) -> None:
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("holds a blank or a control character")


def postgres_options(url: str) -> dict[str, Any]:
    """The options of libpq in a URL of Postgres, by SQLAlchemy's rules for it."""
    from sqlalchemy import make_url
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    options: dict[str, Any] = PGDialect_psycopg().create_connect_args(make_url(url))[1]  # type: ignore[no-untyped-call]
    return options


def _check_postgres(url: str) -> None:
    from psycopg.conninfo import make_conninfo
    from sqlalchemy import make_url

    options = postgres_options(url)
    if not options or make_url(url).port == 0:
        raise ValueError
    _check_options(options, {name: _POSTGRES.get(name, _text) for name in options})
    _check_hosts(options)
    _ask_libpq(make_conninfo(**options | _NOWHERE))


def _check_hosts(options: Mapping[str, str]) -> None:
    places, addresses = (_parts(options.get(name)) for name in ("host", "hostaddr"))
    for host in map(unquote, places):
        if host and not host.startswith(("/", "@")):  # a Unix socket
            hosts.checked(host)
    for address in filter(None, addresses):
        ip_address(address)
    if places and addresses and len(places) != len(addresses):
        raise ValueError
    if len(_parts(options.get("port"))) not in (0, 1, len(places or addresses)):
        raise ValueError


def _ask_libpq(conninfo: str) -> None:
    from psycopg.pq import PGconn

    connection = PGconn.connect_start(conninfo.encode())
    message = connection.error_message
    connection.finish()
    if _CUT_OFF not in message:
        raise ValueError


def _check_redis(url: str) -> None:
    from redis.asyncio import ConnectionPool

    ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
    parts = urlsplit(url)
    _check_options(dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))), _REDIS)
    if parts.scheme == "unix":
        if not _text(unquote(parts.path)):
            raise ValueError
    elif parts.port == 0 or not re.fullmatch(r"(/[0-9]{0,9})?", parts.path):
        raise ValueError
    elif parts.hostname:
        hosts.checked(unquote(parts.hostname))


def _check_options(options: Mapping[str, object], checks: Mapping[str, _Check]) -> None:
    """Raise an error of any kind for an option that `checks` lacks, or whose value its check refuses."""
    for name, value in options.items():
        if not (_text(str(value)) and checks[name](str(value))):
            raise ValueError


def _text(value: str) -> bool:
    return re.search(r"[\x00-\x1f\x7f]", value) is None


def _like(pattern: str) -> _Check:
    return re.compile(pattern, re.IGNORECASE | re.ASCII).fullmatch


def _number(least: float, most: float, pattern: str = r"[0-9]{1,9}(\.[0-9]{1,9})?") -> _Check:
    return lambda value: re.fullmatch(pattern, value) and least <= float(value) <= most


def _whole(least: int, most: int) -> _Check:
    return _number(least, most, "[0-9]{1,9}")


def _ports(value: str) -> bool:
    return all(map(_PORT, filter(None, value.split(","))))


def _file(path: str) -> bool:
    with open(path, "rb"):
        return True


def _authorities(path: str) -> object:
    return path == "system" or ssl.create_default_context(cafile=path)  # libpq's word for those of the system


def _parts(value: object) -> list[str]:
    return str(value).split(",") if value else []


def _built(build: Callable[[], None], but: str = "") -> None:
    """Call `build`. Raises ValueError for any error of the library, without its words: they may quote the address."""
    try:
        build()
    except Exception as error:
        raise ValueError(f"has a part that can't be used: look at its host, its port and its options{but}") from error


_DAY_S = 86_400
_PORT, _FLAG, _WORD_OF_TRUTH = _whole(PORTS[0], PORTS[-1]), _like("0|1"), _like("0|1|true|false|yes|no")

_POSTGRES: Mapping[str, _Check] = {
    "port": _ports,
    "client_encoding": _like("utf8|utf-8|auto"),
    "gssencmode": _like("disable|prefer|require"),
    "connect_timeout": _whole(0, _DAY_S),
    "tcp_user_timeout": _whole(0, _DAY_S * 1000),
    "keepalives": _FLAG,
    "keepalives_idle": _whole(0, 32_767),
    "keepalives_interval": _whole(0, 32_767),
    "keepalives_count": _whole(0, 127),
    "sslcompression": _FLAG,
    "sslsni": _FLAG,
    "gssdelegation": _FLAG,
    "replication": lambda _: False,
    "sslrootcert": _authorities,
    "sslcert": _file,
    "sslkey": _file,
    "sslcrl": _file,
    "passfile": _file,
}
"""Options that libpq itself checks only while it connects. It checks the others for us."""

_REDIS: Mapping[str, _Check] = {
    "host": hosts.checked,
    "port": _PORT,
    "db": _whole(0, 999_999_999),
    "username": _text,
    "password": _text,
    "client_name": _like("[!-~]+"),
    "protocol": _like("2|3"),
    "socket_timeout": _number(0.01, 3600),
    "socket_connect_timeout": _number(0.01, 3600),
    "socket_keepalive": _WORD_OF_TRUTH,
    "retry_on_timeout": _WORD_OF_TRUTH,
    "health_check_interval": _whole(0, _DAY_S),
    "max_connections": _whole(1, 100_000),
    "ssl_cert_reqs": _like("required|optional|none"),
    "ssl_check_hostname": _WORD_OF_TRUTH,
    "ssl_ca_certs": lambda path: ssl.create_default_context(cafile=path),
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
    "ssl_password": _text,
}
"""The options of a URL that mean something to us."""
