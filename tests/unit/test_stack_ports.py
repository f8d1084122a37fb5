"""Free and taken ports."""

from __future__ import annotations

import socket
import sys

import pytest

from workers.stack.errors import CannotListen, PortTaken
from workers.stack.ports import free_port, require_free


def test_a_taken_port_names_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(PortTaken) as caught:
        require_free("127.0.0.1", server.getsockname()[1], "ORCHESTRATOR_PORT")
    assert "set ORCHESTRATOR_PORT to a free one" in str(caught.value)
    assert caught.value.exit_status == 2


def test_a_free_port_is_fine() -> None:
    require_free("127.0.0.1", free_port(), "ORCHESTRATOR_PORT")


@pytest.mark.skipif(sys.platform != "linux", reason="nothing holds a port elsewhere")
def test_a_free_port_is_held_for_the_server_that_it_is_for() -> None:
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    for _ in range(2):  # as often as the server is started
        with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            pass


def test_a_host_that_is_not_ours_is_an_error() -> None:
    with pytest.raises(
        CannotListen, match=r"cannot listen on 203\.0\.113\.1 port .*: change ORCHESTRATOR_HOST or ORCHESTRATOR_PORT"
    ):
        require_free("203.0.113.1", free_port(), "ORCHESTRATOR_PORT")
