"""Signatures after Standard Webhooks 1.0, by its own library."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> str:
    """A secret in the form in which receivers' libraries take it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def headers(event_id: str, body: bytes, signed_with: Sequence[str]) -> dict[str, str]:
    """The headers of one try: signed now, with each of the secrets."""
    at = datetime.fromtimestamp(int(time.time()), UTC)
    signatures = [Webhook(secret).sign(event_id, at, body.decode()) for secret in signed_with]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
        "Content-Type": "application/json",
    }
