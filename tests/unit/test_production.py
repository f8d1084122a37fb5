"""Production mode refuses to start on a default or missing secret (DESIGN, Contracts)."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from infra.settings import Settings

GOOD: dict[str, Any] = {
    "mode": "production",
    "api_key": "Zq3vX0mJ8sT5wB1nK7rY4cL9pD2hF6gA",  # pragma: allowlist secret
    "database_url": "postgresql://orchestrator:Wm5-tR8@db:5432/orchestrator",  # pragma: allowlist secret
    "redis_url": "redis://:kV7_bN2@cache:6379/0",
    "temporal_address": "temporal:7233",
}


def test_what_is_whole_is_accepted() -> None:
    assert Settings(**GOOD).mode == "production"
    Settings(**GOOD | {"redis_url": "redis://cache:6379/0", "database_url": "postgresql://db/orchestrator"})


@pytest.mark.parametrize("name", ["api_key", "database_url", "redis_url", "temporal_address"])
def test_what_is_missing_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"ORCHESTRATOR_{name.upper()}", raising=False)
    with pytest.raises(ValidationError, match=f"ORCHESTRATOR_{name.upper()}"):
        Settings(**{key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_key", "short"),
        ("api_key", "changeme-changeme-changeme-changeme"),
        ("api_key", "Change_Me.0123456789abcdefghijklmnop"),
        ("api_key", "your-api-key-0123456789-0123456789"),
        ("database_url", "postgresql://postgres:postgres@db/orchestrator"),  # pragma: allowlist secret
        ("database_url", "postgresql+psycopg://u:change-me@db/orchestrator"),  # pragma: allowlist secret
        ("database_url", "postgresql://orchestrator:orchestrator@db/orchestrator"),  # pragma: allowlist secret
        ("database_url", "postgresql://db/orchestrator?user=u&password=password"),
        ("redis_url", "redis://:foobared@cache:6379/0"),
        ("redis_url", "rediss://default:Redis@cache:6379/0"),  # pragma: allowlist secret
    ],
)
def test_what_everybody_knows_is_refused_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(ValidationError, match=f"ORCHESTRATOR_{name.upper()}") as refused:
        Settings(**GOOD | {name: value})
    assert value not in str(refused.value)


def test_development_takes_anything() -> None:
    assert (
        Settings(api_key="x", database_url="postgresql://postgres:postgres@db/x").mode  # pragma: allowlist secret
        == "development"
    )
