"""Where a node may register, asked of the running API; and what it may ask us to show it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Api


def registration(**fields: Any) -> dict[str, Any]:
    node = {"gpuId": "address_1", "hostname": "host", "ip": "127.0.0.1", "port": 9, "supportedTaskTypes": [978]}
    return node | fields


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.0.0.2"])
@pytest.mark.parametrize("setting", ["port", "temporal_port", "temporal_ui_port"])
async def test_the_addresses_of_our_own_services_are_refused(api: Api, setting: str, ip: str) -> None:
    port = getattr(api.stack.settings, setting)
    await api.post("/gpus/register", registration(ip=ip, port=port), code=400)


@pytest.mark.parametrize("ip", ["192.0.2.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "localhost"])
async def test_addresses_outside_of_the_networks_are_refused(api: Api, ip: str) -> None:
    await api.post("/gpus/register", registration(ip=ip), code=400)


@pytest.mark.parametrize("secret", ["", "two words", "line\r\nX-Other: 1", "密钥", "x" * 257])
async def test_a_secret_that_can_not_travel_in_a_header_is_refused(api: Api, secret: str) -> None:
    await api.post("/gpus/register", registration(dispatchSecret=secret), code=400)
