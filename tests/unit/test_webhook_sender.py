"""Calls to receivers that answer oddly, slowly, hugely, with a bait, or from where they may not be."""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from typing import Any

import pytest
import svix
import trustme
from standardwebhooks import Webhook, WebhookVerificationError

from infra.nodes.own_services import OwnServices
from infra.settings import Settings
from infra.webhooks import signing
from infra.webhooks.addresses import ReceiverAddresses
from infra.webhooks.names import NotBegun
from infra.webhooks.sender import MOST_READ, ReceiverAnswer, Sender, Trouble
from infra.webhooks.target import BadUrl, parse
from tests.lying_dns import LyingDns
from tests.receiver import HANG, RESET, Receiver
from workflows.domain.errors import ForbiddenReceiver, HttpsRequired

BODY = '{"id": "evt_1", "name": "密"}'.encode()
Make = Callable[..., Sender]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes senders; `networks` are WEBHOOK_NETWORKS."""
    made: list[Sender] = []

    def sender(networks: str = "127.0.0.0/8", settings: dict[str, Any] | None = None, **options: Any) -> Sender:
        chosen = Settings(webhook_networks=networks, **settings or {})
        made.append(Sender(ReceiverAddresses(chosen, OwnServices(chosen)), **options))
        return made[-1]

    yield sender
    for one in made:
        await one.close()


async def send(sender: Sender, url: str, headers: dict[str, str] | None = None) -> ReceiverAnswer:
    return await sender.send("u", url, BODY, headers or {})


async def test_two_verifiers_accept_it_with_either_secret(make: Make) -> None:
    old, new = signing.new_secret(), signing.new_secret()
    async with Receiver() as receiver:
        answer = await send(make(), receiver.url("/a?b=c%20d"), signing.headers("evt_1", BODY, [new, old]))
    assert answer.is_accepted
    (got,) = receiver.got
    assert (got.path, got.body, got.headers["content-type"]) == ("/a?b=c%20d", BODY, "application/json")
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    for secret in (old, new):
        assert Webhook(secret).verify(got.body, got.headers)["id"] == "evt_1"
        svix.Webhook(secret).verify(got.body, got.headers)
    for bad in ((signing.new_secret(), got.body), (new, got.body + b" ")):
        with pytest.raises(WebhookVerificationError):
            Webhook(bad[0]).verify(bad[1], got.headers)
        with pytest.raises(svix.webhooks.WebhookVerificationError):
            svix.Webhook(bad[0]).verify(bad[1], got.headers)


@pytest.mark.parametrize("status", [200, 204, 299, 301, 302, 307, 400, 410, 500])
async def test_a_status_is_what_it_is_and_no_redirect_is_followed(make: Make, status: int) -> None:
    async with Receiver() as other, Receiver(status) as receiver:
        receiver.header = f"Location: {other.url()}\r\n"
        answer = await send(make(), receiver.url())
    assert (answer.status, answer.is_accepted) == (status, status < 300)
    assert not other.got


@pytest.mark.parametrize(("status", "trouble"), [(HANG, Trouble.TIMEOUT), (RESET, Trouble.CONNECTION)])
async def test_a_receiver_without_an_answer(make: Make, status: int, trouble: Trouble) -> None:
    async with Receiver(status) as receiver:
        assert await send(make(total_s=0.3), receiver.url()) == ReceiverAnswer(trouble=trouble)


async def test_a_receiver_that_does_not_listen_or_speaks_no_http(make: Make) -> None:
    async with Receiver() as receiver:
        pass
    assert await send(make(), receiver.url()) == ReceiverAnswer(trouble=Trouble.CONNECTION)


async def test_an_endless_answer_is_not_read(make: Make) -> None:
    async with Receiver(endless=True) as receiver:
        began = time.monotonic()
        assert (await send(make(), receiver.url())).status == 200
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize(("value", "least", "most"), [("7", 7, 7), ("999999999999", 86_400, 86_400), ("soon", 0, 0),
                                                      ("-5", 0, 0), (None, 50, 60),
                                                      ("6 Nov 99999999999999999999 08:49:37 GMT", 0, 0),
                                                      ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400, 86_400)])  # fmt: skip
async def test_a_receiver_that_asks_for_time(make: Make, status: int, value: str, least: float, most: float) -> None:
    header = value or formatdate(time.time() + 60, usegmt=True)
    async with Receiver(status, header=f"Retry-After: {header}\r\n") as receiver:
        assert least <= (await send(make(), receiver.url())).retry_after_s <= most


HINT = "HTTP/1.1 103 Early Hints\r\n\r\n"


@pytest.mark.parametrize(("before", "header"), [(3000 * HINT, ""), ("", f"X: {'x' * 8000}\r\n" * 10)])
async def test_the_head_of_an_answer_is_bounded(make: Make, before: str, header: str) -> None:
    assert len(before + header) > MOST_READ
    async with Receiver(before=before, header=header) as receiver:
        assert await send(make(), receiver.url()) == ReceiverAnswer(trouble=Trouble.CONNECTION)
    async with Receiver(before=3 * HINT) as receiver:
        assert (await send(make(), receiver.url())).is_accepted


async def test_others_are_not_given_time(make: Make) -> None:
    async with Receiver(500, header="Retry-After: 60\r\n") as receiver:
        assert (await send(make(), receiver.url())).retry_after_s == 0


async def test_no_more_than_two_addresses_of_a_family_are_called(make: Make) -> None:
    found = ["127.0.0.2", "127.0.0.3", "127.0.0.1", "::1"]

    async def many(*_: str) -> list[str]:
        return found

    async with Receiver() as receiver:
        sender, url = make("127.0.0.0/8,::1", names=many), receiver.url(host="many.example")
        assert (await send(sender, url)).trouble is Trouble.CONNECTION
        found.remove("127.0.0.2")
        assert (await send(sender, url)).is_accepted


async def test_no_proxy_of_the_environment_is_used(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver() as proxy, Receiver() as receiver:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        assert (await send(make(), receiver.url())).is_accepted
    assert not proxy.got


async def test_the_name_is_that_of_the_certificate(make: Make) -> None:
    authority = trustme.CA()
    serves, trusts = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.configure_trust(trusts)
    authority.issue_cert("hooks.example").configure_cert(serves)
    names: list[str | None] = []
    serves.sni_callback = lambda _, name, __: names.append(name)
    async with Receiver(tls=serves) as receiver, LyingDns(["127.0.0.1"]) as dns:
        known = make(names=dns.look_up, tls=trusts)
        assert (await send(known, receiver.url(host="hooks.example"))).is_accepted
        assert (await send(known, receiver.url(host="other.example"))).trouble is Trouble.TLS
        assert (await send(make(names=dns.look_up), receiver.url(host="hooks.example"))).trouble is Trouble.TLS
    assert names[:2] == ["hooks.example", "other.example"]
    assert [got.headers["host"] for got in receiver.got] == [f"hooks.example:{receiver.port}"]


@pytest.mark.parametrize("lie", [["10.0.0.1"], ["169.254.169.254"], ["127.0.0.1", "192.168.0.1"], ["0.0.0.0"]])
async def test_a_name_that_turns_is_found_out_on_every_try(make: Make, lie: list[str]) -> None:
    async with Receiver(500) as receiver, LyingDns(["127.0.0.1"], lie, ["127.0.0.1"], lie) as dns:
        sender = make(names=dns.look_up)
        url = receiver.url(host="turns.example")
        answers = [await send(sender, url) for _ in range(4)]
        assert len(dns.asked) == 4  # once for each try
    assert [answer.trouble for answer in answers] == [None, Trouble.ADDRESS, None, Trouble.ADDRESS]
    assert len(receiver.got) == 2


async def test_a_name_that_nobody_knows(make: Make) -> None:
    async def nobody(*_: str) -> list[str]:
        raise OSError("Name or service not known")

    assert (await send(make(names=nobody), "https://gone.example/")).trouble is Trouble.NAME


async def test_a_try_counts_only_if_its_look_up_has_begun(make: Make) -> None:
    async def no_thread(*_: str) -> list[str]:
        raise NotBegun

    sender = make(names=no_thread)
    assert await send(sender, "https://busy.example/") == ReceiverAnswer(trouble=Trouble.TIMEOUT, counts=False)
    with pytest.raises(TimeoutError):
        await sender.check("u", parse("https://busy.example/"))


INSIDE = (
    "https://127.0.0.1/", "https://10.0.0.1/", "https://192.168.1.1/", "https://169.254.169.254/latest/meta-data",
    "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[64:ff9b::7f00:1]/", "https://0.0.0.0/", "https://[::]/",
    "https://100.100.100.200/", "https://224.0.0.1/", "https://[fe80::1]/", "https://[fd00:ec2::254]/",
    "https://１２７.0.0.1/", "http://93.184.216.34/", "https://93.184.216.34:8443/",
)  # fmt: skip


@pytest.mark.parametrize("url", INSIDE)
async def test_no_way_leads_inside(make: Make, url: str) -> None:
    sender = make("")
    with pytest.raises(ForbiddenReceiver):
        await sender.check("u", parse(url))
    assert (await send(sender, url)).trouble is Trouble.ADDRESS


async def test_our_own_services_are_never_called(make: Make) -> None:
    async with Receiver() as receiver:
        sender = make(settings={"port": receiver.port})
        assert (await send(sender, receiver.url())).trouble is Trouble.ADDRESS
    assert not receiver.got


@pytest.mark.parametrize("networks", ["", "10.1.0.0/16"])
async def test_http_is_refused_for_its_scheme_where_only_that_is_wrong(make: Make, networks: str) -> None:
    with pytest.raises(HttpsRequired):
        await make(networks).check("u", parse("http://93.184.216.34/"))
    with pytest.raises(ForbiddenReceiver) as refusal:
        await make(networks).check("u", parse("http://10.2.2.3/"))
    assert not isinstance(refusal.value, HttpsRequired)


async def test_http_to_a_name_is_refused_before_a_look_up(make: Make) -> None:
    async def unknown(*_: str) -> list[str]:
        raise OSError("unknown")

    with pytest.raises(HttpsRequired):
        await make("", names=unknown).check("u", parse("http://unknown.example/"))
    with pytest.raises(OSError, match="unknown"):
        await make("10.1.0.0/16", names=unknown).check("u", parse("http://unknown.example/"))


def test_a_url_is_measured_as_it_is_called() -> None:
    assert parse("https://a.example/" + "x" * 2030)
    for path in ("x" * 2031, "界" * 300, "{" * 700):
        with pytest.raises(BadUrl, match="2048"):
            parse(f"https://a.example/{path}")


async def test_what_is_listed_is_allowed_and_only_that(make: Make) -> None:
    sender = make("10.1.0.0/16")
    await sender.check("u", parse("http://10.1.2.3:8080/"))
    await sender.check("u", parse("https://93.184.216.34/"))
    with pytest.raises(ForbiddenReceiver):
        await sender.check("u", parse("http://10.2.2.3/"))
    with pytest.raises(ForbiddenReceiver):
        await make("0.0.0.0/0").check("u", parse("https://10.1.2.3/"))


async def test_a_port_that_is_not_https_needs_a_listed_network(make: Make) -> None:
    await make("0.0.0.0/0").check("u", parse("http://93.184.216.34:8080/"))


async def test_each_try_has_a_connection_of_its_own(make: Make) -> None:
    sender = make()
    async with Receiver(answers=deque([500, 500])) as receiver:
        assert [(await send(sender, receiver.url())).status for _ in range(3)] == [500, 500, 200]
    assert len(receiver.got) == 3
