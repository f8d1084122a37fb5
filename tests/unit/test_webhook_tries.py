"""Places of tries at each level: how many one may have, and that there is one for each that has none."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from infra.nodes.own_services import OwnServices
from infra.settings import Settings
from infra.webhooks.tries import AT_HOST, MOST, OF_OWNER, Tries, within
from workers import temporal_worker


def reserved(tries: Tries, owner: str, webhook_id: str, hosts: Iterable[str]) -> int:
    return sum(tries.reserve(owner, webhook_id, host) for host in hosts)


def distinct(name: str, count: int = 1000) -> list[str]:
    return [f"{name}{number}.example" for number in range(count)]


def test_a_webhook_leaves_places_to_its_owner_s_others() -> None:
    tries = Tries()
    assert reserved(tries, "a", "hog", distinct("hog")) == OF_OWNER - OF_OWNER // 4
    assert (tries.room("a", "hog"), tries.room("a", "other")) == (0, OF_OWNER // 4)
    assert sum(tries.reserve("a", f"w{n}", f"{n}.example") for n in range(100)) == OF_OWNER // 4
    assert tries.room("b", "w") > 0


def test_owners_leave_places_to_those_that_have_none() -> None:
    tries = Tries()
    taken = sum(reserved(tries, f"o{n}", f"w{n}", distinct(f"{n}.")) for n in range(20))
    assert taken < MOST
    assert tries.reserve("modest", "w", "modest.example")


def test_no_more_than_all_places_are_taken() -> None:
    tries = Tries(most=40)
    assert sum(tries.reserve(f"o{n}", f"w{n}", f"{n}.example") for n in range(100)) == 40
    assert tries.room("new", "new") == 0
    tries.release("o7", "w7", "7.example")
    assert tries.reserve("new", "new", "new.example")


def test_at_a_host_one_owner_leaves_places_to_others() -> None:
    tries = Tries()
    assert reserved(tries, "a", "w", ["host"] * 20) == AT_HOST - AT_HOST // 4
    assert (tries.full_hosts("a"), tries.full_hosts("b")) == (["host"], [])
    assert sum(tries.reserve(f"o{n}", f"w{n}", "host") for n in range(20)) == AT_HOST // 4
    assert tries.full_hosts("b") == ["host"]
    assert tries.reserve("a", "w", "elsewhere")


def test_what_is_released_is_forgotten() -> None:
    tries = Tries()
    for _ in range(3):
        assert tries.reserve("a", "w", "host")
    for _ in range(3):
        tries.release("a", "w", "host")
    assert not any((tries._of_owner, tries._of_webhook, tries._at_host, tries._of_owner_at_host, tries._all))


@pytest.mark.parametrize(("files", "most"), [(1024, 128), (4096, MOST), (1_000_000, MOST)])
def test_tries_leave_half_of_the_files(files: int, most: int) -> None:
    assert within(files) == most


@pytest.mark.parametrize(("limits", "then", "most"), [
    ((1024, 1_048_576), 8192, MOST), ((1024, 1024), 1024, 128), ((20_000, 20_000), 20_000, MOST), ((-1, -1), -1, MOST),
])  # fmt: skip
def test_the_worker_raises_its_limit_of_files(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], then: int, most: int
) -> None:
    now = list(limits)
    setrlimit: Callable[..., None] = lambda _, new: now.__setitem__(slice(None), new)  # noqa: E731
    monkeypatch.setattr("resource.getrlimit", lambda _: tuple(now))
    monkeypatch.setattr("resource.setrlimit", setrlimit)
    sender = temporal_worker.receivers(Settings(), OwnServices(Settings()))
    assert now == [then, limits[1]]
    assert sum(sender.tries.reserve(f"o{n}", f"w{n}", f"{n}.example") for n in range(2 * MOST)) == most
