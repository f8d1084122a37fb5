"""Where the API is, and whose key is used."""

from __future__ import annotations

import pytest

from gpu_orchestrator_client.options import Options


def test_what_is_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_ORCHESTRATOR_URL", "http://there:1/api/v2/")
    monkeypatch.setenv("GPU_ORCHESTRATOR_KEY", " theirs\n")
    monkeypatch.setenv("GPU_ORCHESTRATOR_USER", "eve")
    assert Options.of(None, None, None, None) == Options("http://there:1", "theirs", "python", "eve")
    assert Options.of(" https://here\n", "ours", "app", "ada") == Options("https://here", "ours", "app", "ada")


@pytest.mark.parametrize(
    ("url", "key"),
    [
        *[(url, "key") for url in (None, "localhost:8080", "http://", "http://:80", "http://a:99999", "http://a b")],
        *[(url, "key") for url in ("http://me@a", "http://:b@a", "http://a?b", "http://a#b")],
        *[("http://a", key) for key in (None, "é", "a b", "a\nb")],
    ],
)
def test_what_cannot_work_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, url: str | None, key: str | None) -> None:
    monkeypatch.delenv("GPU_ORCHESTRATOR_URL", raising=False)
    monkeypatch.delenv("GPU_ORCHESTRATOR_KEY", raising=False)
    with pytest.raises(ValueError, match="give it to the client, or set GPU_ORCHESTRATOR_"):
        Options.of(url, key, None, None)


def test_a_key_is_in_no_text() -> None:
    assert "secret" not in repr(Options.of("http://a", "secret", None, None))


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:80"])
def test_what_goes_to_this_machine_goes_to_no_proxy(host: str) -> None:
    assert Options.of(f"http://{host}", "key", None, None).http()["trust_env"] is False
    assert Options.of("http://gpu.example.com", "key", None, None).http()["trust_env"] is True
