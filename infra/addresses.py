"""Where nodes may live (INVARIANTS, "Who may call what"): checked at registration and again at every dispatch."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from infra.settings import Settings
from workflows.domain.errors import ForbiddenAddress


def check(settings: Settings, ip: str, port: int) -> None:
    """Raise ForbiddenAddress unless `ip` is a literal address that the operator allows and `port` is not ours."""
    try:
        address = ip_address(ip)
    except ValueError:
        raise ForbiddenAddress from None
    mapped = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
    if mapped or address.is_link_local or address.is_multicast or address.is_unspecified:
        raise ForbiddenAddress
    if not any(address in network for network in settings.networks):
        raise ForbiddenAddress
    if (str(address), port) in own_services(settings):
        raise ForbiddenAddress


def own_services(settings: Settings) -> set[tuple[str, int]]:
    """The addresses of our own Postgres, Redis, Temporal and API, as far as they are literal."""
    found: set[tuple[str, int]] = {(settings.host, settings.port)}
    for url in (settings.database_url, settings.redis_url, f"//{settings.temporal_address or ''}"):
        parts = urlsplit(url or "")
        if parts.hostname and parts.port:
            found.add((parts.hostname.replace("localhost", "127.0.0.1"), parts.port))
    found |= {("127.0.0.1", settings.temporal_port), ("127.0.0.1", settings.temporal_ui_port)}
    return found
