"""Look-ups of names that answer, that hang, and that are none."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infra.webhooks.names import Names, NotBegun
from tests.conftest import eventually


class Resolver:
    """A stand-in for the machine's own resolver. Names that begin with `hangs` get their answer after `go`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = threading.Event()

    def getaddrinfo(self, host: str, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        if host.startswith("hangs"):
            self.go.wait(30)
        return [(0, 0, 0, "", (address, 0)) for address in ("1.2.3.4", "1.2.3.4", "::1")]


@pytest.fixture
async def resolver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Resolver]:
    resolver = Resolver()
    monkeypatch.setattr("infra.webhooks.names.socket.getaddrinfo", resolver.getaddrinfo)
    yield resolver
    resolver.go.set()


async def test_a_name_that_hangs_takes_one_thread(resolver: Resolver) -> None:
    names = Names(threads=2)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await names.look_up("u", "hangs.example")
    waiting = [asyncio.create_task(names.look_up("u", "hangs.example")) for _ in range(5)]
    assert await names.look_up("u", "a.example") == ["1.2.3.4", "::1"]
    resolver.go.set()
    assert await asyncio.gather(*waiting) == 5 * [["1.2.3.4", "::1"]]
    assert resolver.asked == ["hangs.example", "a.example"]
    await names.look_up("u", "hangs.example")
    assert len(resolver.asked) == 3  # an answer is not kept


async def test_a_look_up_without_a_thread_has_not_begun(resolver: Resolver) -> None:
    names = Names(threads=1, begin_s=0.05)
    hanging = asyncio.create_task(names.look_up("u", "hangs.example"))
    await eventually(lambda: asyncio.sleep(0, resolver.asked))
    with pytest.raises(NotBegun):
        await names.look_up("u", "a.example")
    assert resolver.asked == ["hangs.example"]
    resolver.go.set()
    await hanging
    await names.look_up("u", "a.example")


async def test_the_names_of_one_owner_keep_nobody_else_waiting(resolver: Resolver) -> None:
    """The name of another owner is looked up at once, also if the first owner waits for the same name."""
    names = Names(threads=4, share=2)
    hosts = [f"hangs{n}.example" for n in range(20)]
    hanging = [asyncio.create_task(names.look_up("a", host)) for host in [*hosts, "b.example"]]
    await eventually(lambda: asyncio.sleep(0, len(resolver.asked) == 2))
    assert await names.look_up("b", "b.example") == ["1.2.3.4", "::1"]
    assert resolver.asked == [*hosts[:2], "b.example"]
    resolver.go.set()
    assert len(await asyncio.gather(*hanging)) == 21
    assert not names._shares


async def test_a_look_up_that_was_given_up_leaves_the_share_as_it_was(resolver: Resolver) -> None:
    """It had waited for a thread, with its owner's share in hand."""
    names = Names(threads=1, share=1, begin_s=0.05)
    hanging = asyncio.create_task(names.look_up("a", "hangs.example"))
    await eventually(lambda: asyncio.sleep(0, resolver.asked))
    for _ in range(2):
        with pytest.raises(NotBegun):
            await names.look_up("b", "b.example")
    resolver.go.set()
    await hanging
    assert await names.look_up("b", "b.example") == ["1.2.3.4", "::1"]


async def test_what_no_resolver_can_be_asked_is_a_name_that_nobody_knows() -> None:
    with pytest.raises(UnicodeError):
        socket.getaddrinfo("a..b", None)
    with pytest.raises(OSError, match="not a name"):
        await Names().look_up("u", "a..b")
