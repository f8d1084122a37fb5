"""URLs of receivers: what is refused before any name is looked up."""

from __future__ import annotations

import pytest

from infra.webhooks import target
from infra.webhooks.target import MAX_AUTHORITY, MAX_URL, BadUrl, parse

BAD = {
    "another scheme": "ftp://example.com/",
    "a file": "file:///etc/passwd",
    "no scheme": "example.com/hook",
    "a relative one": "//example.com/hook",
    "nothing": "",
    "no host": "https:///hook",
    "a user": "https://user@example.com/",
    "a password": "https://user:secret@example.com/",  # pragma: allowlist secret
    "an empty user": "https://:secret@example.com/",  # pragma: allowlist secret
    "a blank": "https://example.com/a b",
    "a new line": "https://example.com/\r\nHost: inside",
    "a backslash": "https://example.com\\@10.0.0.1/",
    "a port of zero": "https://example.com:0/",
    "a port too large": "https://example.com:65536/",
    "a number": "https://2130706433/",
    "a hexadecimal number": "https://0x7f000001/",
    "a short address": "https://127.1/",
    "an octal address": "https://0177.0.0.1/",
    "hexadecimal parts": "https://127.0.0.0x1/",
    "an address with a dot": "https://127.0.0.1./",
    "a zone": "https://[fe80::1%25eth0]/",
    "half an address": "https://[::1/",
    "an empty label": "https://a..b/",
    "an empty first label": "https://.example.com/",
    "two dots at the end": "https://example.com../",
    "a long label": f"https://{'a' * 64}.example/",
    "a long name": f"https://{'a.' * 126}aa/",
    "a length": "https://example.com/" + "x" * (MAX_URL - 19),
}


@pytest.mark.parametrize("url", BAD.values(), ids=BAD)
def test_what_is_no_url_of_a_receiver(url: str) -> None:
    with pytest.raises(BadUrl) as refusal:
        parse(url)
    assert "secret" not in str(refusal.value)


def test_what_is_one() -> None:
    longest = "https://example.com/" + "x" * (MAX_URL - 20)
    assert len(longest) == MAX_URL
    assert parse(longest).is_usual
    found = parse("HTTPS://Example.COM:8443/a%2Fb?c=d#e")
    assert (found.scheme, found.host, found.port) == ("https", "example.com", 8443)
    assert str(found.url) == "https://example.com:8443/a%2Fb?c=d"
    assert parse("https://[2606:4700::1111]/").ip == "2606:4700::1111"
    assert parse(f"https://{'a' * 63}.example./").host == f"{'a' * 63}.example."
    assert parse(f"https://{'a.' * 126}a/").is_usual
    assert parse("https://münchen.example/").host == "xn--mnchen-3ya.example"


@pytest.mark.parametrize("rest", ["", "/a", "?a", "#a", ":443/", "@example.com/"])
def test_a_long_host_is_not_converted(monkeypatch: pytest.MonkeyPatch, rest: str) -> None:
    """One in another script takes long: a character of this one becomes eighteen."""
    monkeypatch.setattr(target, "URL", pytest.fail)
    with pytest.raises(BadUrl):
        parse("https://" + "\ufdfa" * (MAX_AUTHORITY // 3 + 1) + rest)
