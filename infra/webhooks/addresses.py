"""Where a receiver of webhooks may be: the rules for nodes' addresses, and only https outside of WEBHOOK_NETWORKS."""

from __future__ import annotations

from ipaddress import ip_network

from infra.nodes.address_policy import AllowList
from infra.nodes.own_services import OwnServices
from infra.settings import Settings
from infra.webhooks.target import HTTPS_PORT, Target
from workflows.domain.errors import ForbiddenAddress, ForbiddenReceiver, HttpsRequired

PUBLIC = (ip_network("0.0.0.0/0"), ip_network("::/0"))
"""The public addresses: a special one counts as listed only by a network inside of its range."""


class ReceiverAddresses:
    """Checks each address to which a receiver's name leads."""

    def __init__(self, settings: Settings, own: OwnServices) -> None:
        self._public = AllowList(PUBLIC, (range(HTTPS_PORT, HTTPS_PORT + 1),), own)
        self._listed = AllowList(settings.webhook_networks, (range(1, 65536),), own)
        self._lists_networks = bool(settings.webhook_networks)

    def check_name(self, target: Target) -> None:
        """Raise HttpsRequired if no address of the target's name could be called by http."""
        if target.ip is None and target.scheme == "http" and not self._lists_networks:
            raise HttpsRequired

    def check(self, target: Target, ip: str) -> None:
        """Raise ForbiddenReceiver unless the target may be called at this address, HttpsRequired if only its scheme
        forbids that. Never waits."""
        rules = (self._public, self._listed) if target.is_usual else (self._listed,)
        if any(_allows(rule, ip, target.port) for rule in rules):
            return
        if (target.scheme, target.port) == ("http", 80) and _allows(self._public, ip, HTTPS_PORT):
            raise HttpsRequired
        raise ForbiddenReceiver


def _allows(rule: AllowList, ip: str, port: int) -> bool:
    try:
        rule.check(ip, port)
    except ForbiddenAddress:
        return False
    return True
