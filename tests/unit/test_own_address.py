"""Where nodes and our own programs reach the API, whatever it listens on."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from infra.environment.own_address import http_url, is_wildcard
from infra.settings import Settings

OWN = {"10.0.0.1": "10.0.0.7", "192.168.1.1": "192.168.1.5", "192.0.2.1": "198.51.100.2", "127.0.0.1": "127.0.0.1"}
OWN |= {"fd12::1": "fd12::7", "::1": "::1"}


@pytest.fixture(autouse=True)
def routes(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A machine with the addresses OWN towards others, of which some can be taken away."""
    known = dict(OWN)

    class Probe(socket.socket):
        def connect(self, target: Any) -> None:
            if target[0] not in known:
                raise OSError(101, "Network is unreachable")
            self._own = known[target[0]]

        def getsockname(self) -> Any:
            return self._own, 4711

    monkeypatch.setattr("infra.environment.own_address.socket.socket", Probe)
    return known.pop  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("host", "networks", "url"),
    [
        ("127.0.0.1", "10.0.0.0/8", "http://127.0.0.1:8080"),
        ("api.internal", "10.0.0.0/8", "http://api.internal:8080"),
        ("::1", "127.0.0.0/8", "http://[::1]:8080"),
        ("fd12::7", "fd12::/16", "http://[fd12::7]:8080"),
    ],
)
def test_a_host_is_used_as_it_is(host: str, networks: str, url: str) -> None:
    settings = Settings(host=host, node_networks=networks)
    assert (settings.base_url, settings.local_url) == (url, url)


@pytest.mark.parametrize(
    ("host", "networks", "url"),
    [
        ("0.0.0.0", "127.0.0.0/8", "http://127.0.0.1:8080"),
        ("0.0.0.0", "127.0.0.0/8,192.168.1.0/24", "http://192.168.1.5:8080"),
        ("0.0.0.0", "172.16.0.0/12,10.0.0.0/8", "http://10.0.0.7:8080"),  # there is no route to the first
        ("0.0.0.0", "192.168.1.1/32", "http://192.168.1.5:8080"),
        ("0.0.0.0", "0.0.0.0/0", "http://198.51.100.2:8080"),
        ("0.0.0.0", "fd12::/64", "http://127.0.0.1:8080"),
        ("::", "10.0.0.0/8,fd12::/64", "http://[fd12::7]:8080"),
        ("::", "10.0.0.0/8", "http://[::1]:8080"),
        ("0:0::0", "::1/128", "http://[::1]:8080"),
    ],
)
def test_a_host_of_all_addresses_is_replaced_by_a_guess_that_is_logged(
    host: str, networks: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(host=host, node_networks=networks)
    with caplog.at_level(logging.WARNING):
        assert settings.base_url == url
        assert settings.base_url == url
    (line,) = caplog.messages
    assert url in line
    assert "ORCHESTRATOR_PUBLIC_URL" in line
    assert settings.local_url in ("http://127.0.0.1:8080", "http://[::1]:8080")


def test_the_public_url_needs_no_guess(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(host="0.0.0.0", public_url="https://gpu.example.com/api-root/")
    assert settings.base_url == "https://gpu.example.com/api-root"
    assert caplog.messages == []


@pytest.mark.parametrize("url", ["gpu.example.com", "ftp://gpu.example.com", "http://", "http://host/?a=b"])
def test_a_public_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="public_url"):
        Settings(public_url=url)


def test_an_empty_public_url_is_none_at_all() -> None:
    assert Settings(public_url="").base_url == "http://127.0.0.1:8080"


@pytest.mark.parametrize(("host", "wild"), [("0.0.0.0", True), ("::", True), ("", True), ("::1", False), ("a", False)])
def test_wildcards(host: str, wild: bool) -> None:
    assert is_wildcard(host) is wild


def test_an_ipv6_address_gets_its_brackets() -> None:
    assert http_url("::1", 80) == "http://[::1]:80"
