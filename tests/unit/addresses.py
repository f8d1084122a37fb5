"""A machine with certain addresses, and what an allow list says of an address."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from infra.nodes.address_policy import SPECIAL, AllowList
from infra.nodes.own_services import OwnServices
from infra.settings import Settings
from workflows.domain.errors import ForbiddenAddress

PUBLIC = "0.0.0.0/0,::/0"
EVERYWHERE = ",".join([PUBLIC, *map(str, SPECIAL)])
OWN_ADDRESSES = ("127.0.0.1", "10.0.0.7", "::1", "fe80::7%eth0", "fd12::7")


def settle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has the addresses OWN_ADDRESSES."""

    def interfaces() -> dict[str, list[Any]]:
        kinds = {True: socket.AF_INET6, False: socket.AF_INET}
        link = SimpleNamespace(family=psutil.AF_LINK, address="00:00:00:00:00:00")
        return {"eth0": [link, *(SimpleNamespace(family=kinds[":" in a], address=a) for a in OWN_ADDRESSES)]}

    monkeypatch.setattr("infra.nodes.own_services.psutil.net_if_addrs", interfaces)


def allow_list(networks: str = EVERYWHERE, **settings: Any) -> AllowList:
    chosen = Settings(node_networks=networks, **settings)
    return AllowList.of_nodes(chosen, OwnServices(chosen))


def allows(allowed: AllowList, ip: str, port: int = 9000) -> bool:
    try:
        allowed.check(ip, port)
    except ForbiddenAddress:
        return False
    return True
