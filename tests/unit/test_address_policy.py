"""Where a node may be: networks, ports, and what is refused whatever is allowed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.addresses import PUBLIC, allow_list, allows, settle_machine


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    settle_machine(monkeypatch)


@pytest.mark.parametrize(
    ("networks", "ip", "allowed"),
    [
        ("127.0.0.0/8", "127.0.0.1", True),
        ("127.0.0.0/8", "127.8.8.8", True),
        ("127.0.0.0/8", "192.168.1.100", False),
        ("127.0.0.0/8", "::1", False),
        ("127.0.0.0/8, 192.168.1.0/24", "192.168.1.100", True),
        ("127.0.0.0/8, 192.168.1.0/24", "192.168.2.1", False),
        ("fd12::/64,::1/128", "fd12::42", True),
        ("fd12::/64,::1/128", "FD12:0::0042", True),
        ("fd12::/64,::1/128", "::1", True),
        ("fd12::/64", "fd13::1", False),
    ],
)
def test_the_operators_networks(networks: str, ip: str, allowed: bool) -> None:
    assert allows(allow_list(networks), ip) is allowed


@pytest.mark.parametrize(
    "ip",
    ["localhost", "gpu.example.com", "", "10.0.0", "010.0.0.1", "0x7f.0.0.1", "2130706433", " 10.1.1.1", "10.1.1.1/32"],
)
def test_only_a_literal_address_counts(ip: str) -> None:
    assert not allows(allow_list(), ip)


@pytest.mark.parametrize(
    "ip",
    [
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "169.254.1.1",
        "169.254.169.254",
        "fe80::1",
        "febf::1",
        "fe80::1%eth0",
        "fd34::1%eth0",  # allowed without its zone
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::254%1",
        "fd20:ce::254",
        "224.0.0.1",
        "239.255.255.250",
        "ff02::1",
        "255.255.255.255",
        "::ffff:10.1.1.1",
        "::ffff:127.0.0.1",
        "::ffff:0:10.1.1.1",
        "::127.0.0.1",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b::127.0.0.1",
        "64:ff9b::100.100.100.200",
        "64:ff9b::224.0.0.1",
        "64:ff9b:1::10.1.1.1",
        "2002:a9fe:a9fe::1",  # 6to4 of 169.254.169.254
        "2002:7f00:1::1",
        "2002:e000:1::1",
        "2001:0:4136:e378:8000:63bf:5601:5601",  # Teredo of 169.254.169.254
        "2001:0:4136:e378:8000:63bf:80ff:fffe",  # and of 127.0.0.1
        "2001:0:a9fe:a9fe:8000:63bf:f5ff:fffe",  # a Teredo server at 169.254.169.254
    ],
)
def test_refused_whatever_is_allowed(ip: str) -> None:
    assert not allows(allow_list(), ip)


@pytest.mark.parametrize("ip", ["64:ff9b::10.1.1.1", "2002:a01:101::1", "2001:0:4136:e378:8000:63bf:f5fe:fefe"])
def test_translated_addresses_of_an_allowed_one_are_allowed(ip: str) -> None:
    assert allows(allow_list(), ip)
    assert not allows(allow_list(database_url="postgresql://10.1.1.1:9000/db"), ip)


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1",
        "10.0.0.5",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.100",
        "100.64.0.1",
        "100.127.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "240.0.0.1",
        "::1",
        "fc00::1",
        "fd12::7",
        "fec0::1",
        "2001:db8::1",
        "3fff::1",
        "2002:808:808::1",
        "2001:0:808:808:8000:63bf:f7f7:f7f7",
        "64:ff9b::10.0.0.5",
        "64:ff9b::192.168.0.1",
        "64:ff9b::100.64.0.1",
        "::8.8.8.8",
    ],
)
def test_what_is_not_public_is_refused_where_it_is_not_listed_by_itself(ip: str) -> None:
    assert not allows(allow_list(PUBLIC), ip)
    assert not allows(allow_list(f"{PUBLIC},192.0.0.0/7,8.0.0.0/5,f000::/4,2000::/3"), ip)  # larger than the ranges


@pytest.mark.parametrize(
    "ip",
    ["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0",
     "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "126.255.255.255", "128.0.0.0",
     "2606:4700::1111", "2001:200::1", "64:ff9b::8.8.8.8"],
)  # fmt: skip
def test_what_is_public_is_allowed_everywhere(ip: str) -> None:
    assert allows(allow_list(PUBLIC), ip)


@given(st.ip_addresses())
def test_everywhere_means_no_address_that_python_calls_not_global(address: Any) -> None:
    assert address.is_global or not allows(allow_list(PUBLIC), str(address))


@pytest.mark.parametrize(
    ("networks", "ip", "allowed"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.0.0/16", "10.1.2.3", True),
        ("10.1.0.0/16", "10.2.0.1", False),
        ("10.0.0.0/7", "10.1.2.3", False),
        ("0.0.0.0/0,10.0.0.0/8", "10.1.2.3", True),
        ("0.0.0.0/0,10.0.0.0/8", "8.8.8.8", True),
        ("0.0.0.0/0,10.0.0.0/8", "172.16.0.1", False),
        ("0.0.0.0/0,127.0.0.0/8", "127.0.0.1", True),
        ("0.0.0.0/0,::1/128", "127.0.0.1", False),
        ("::/0,fd12::/16", "fd12::1", True),
        ("::/0,fd12::/16", "fd13::1", False),
        ("100.64.0.0/10", "100.64.0.1", True),
        ("192.0.2.0/24", "192.0.2.1", True),
        (f"{PUBLIC},10.0.0.0/8", "64:ff9b::10.1.1.1", True),
        (f"{PUBLIC},10.0.0.0/8", "2002:a01:101::1", False),
        (f"{PUBLIC},2002::/16", "2002:a01:101::1", False),
        (f"{PUBLIC},2002::/16", "2002:808:808::1", True),
        (f"{PUBLIC},10.0.0.0/8,2002::/16", "2002:a01:101::1", True),
        (f"{PUBLIC},127.0.0.0/8", "64:ff9b::127.0.0.1", False),
    ],
)
def test_a_special_network_that_is_listed_is_allowed(networks: str, ip: str, allowed: bool) -> None:
    assert allows(allow_list(networks), ip) is allowed


@pytest.mark.parametrize(("port", "allowed"), [(7999, False), (8000, True), (8999, True), (9000, False), (9100, True)])
def test_the_operators_ports(port: int, allowed: bool) -> None:
    assert allows(allow_list(node_ports="8000-8999,9100"), "10.1.1.1", port) is allowed
