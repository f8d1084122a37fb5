"""The URL of a receiver, read by the parser of the client that calls it: so no two parsers disagree about its host."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

from yarl import URL

MAX_URL = 2048
"""Characters."""
HTTPS_PORT = 443
MAX_NAME = 253
MAX_AUTHORITY = 300
"""Bytes of host and port: names in other scripts take long to convert."""
LABEL = r"[^.]{1,63}"


class BadUrl(ValueError):
    """A URL that nothing can be sent to. The text says why, and quotes nothing."""


@dataclass(frozen=True)
class Target:
    """A URL with a scheme of HTTP and a host, without credentials."""

    url: URL
    scheme: str
    host: str
    port: int

    @property
    def ip(self) -> str | None:
        """The host, if it is a literal address."""
        try:
            return str(ip_address(self.host))
        except ValueError:
            return None

    @property
    def is_usual(self) -> bool:
        """Whether it needs no permission of its own: https at its own port."""
        return (self.scheme, self.port) == ("https", HTTPS_PORT)


def parse(text: str) -> Target:
    """Read a URL. Raises BadUrl."""
    if len(text) > MAX_URL:
        raise BadUrl(f"超过 {MAX_URL} 个字符")
    if not re.fullmatch(r"[^\s\\\x00-\x20\x7f-\x9f]+", text):
        raise BadUrl("含有空白或控制字符")
    try:
        url = _read(text)
        scheme, host, port = url.scheme.lower(), (url.raw_host or "").lower(), url.port
    except ValueError:
        raise BadUrl("不是有效的 URL") from None
    if scheme not in ("http", "https"):
        raise BadUrl("必须是 https 地址")
    if not host or not port or not url.absolute or not _is_host(host):
        raise BadUrl("不是有效的 URL")
    if url.raw_user is not None or url.raw_password is not None:
        raise BadUrl("不能包含用户名或密码")
    url = url.with_fragment(None)
    if len(str(url)) > MAX_URL:  # percent-encoded, as it is called
        raise BadUrl(f"超过 {MAX_URL} 个字符")
    return Target(url, scheme, host, port)


def _read(text: str) -> URL:
    """A URL whose host and port are short. Raises ValueError."""
    authority = re.split("[/?#]", text.partition("//")[2], maxsplit=1)[0]
    if len(authority.encode()) > MAX_AUTHORITY:
        raise ValueError("host and port are too long")
    return URL(text)


def _is_host(host: str) -> bool:
    """Whether a host is a name, or an address as usual: not 127.1, 0x7f000001, or one with a zone."""
    if ":" in host:
        return "%" not in host
    name = host.removesuffix(".")
    if len(name) > MAX_NAME or not re.fullmatch(rf"{LABEL}(\.{LABEL})*", name):
        return False
    if not re.fullmatch(r"[0-9]+|0x[0-9a-f]*", name.rpartition(".")[2]):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
