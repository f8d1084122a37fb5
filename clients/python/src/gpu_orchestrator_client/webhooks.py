"""Checking that a webhook is the orchestrator's (Standard Webhooks 1.0)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from gpu_orchestrator_client.errors import BadSignature
from gpu_orchestrator_client.models import Event

TOLERANCE_S = 300.0


def verify_webhook(
    body: bytes,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance_s: float = TOLERANCE_S,
) -> Event:
    """The event that a webhook carries.

    `body` as it came, byte for byte; `secret` as the API gave it (`whsec_…`), or the old and the new one during a
    rotation. Raises BadSignature if none of them has signed it, or if it was sent more than `tolerance_s` ago, and
    ValueError if a secret is none.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, sent, signatures = (given[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
        age_s = abs(time.time() - int(sent))
    except (KeyError, ValueError, OverflowError):
        raise BadSignature("webhook-id, webhook-timestamp and webhook-signature must be set") from None
    if age_s > tolerance_s:
        raise BadSignature(f"timestamp is {age_s:.0f} s old, or the clocks differ")
    signed = f"{message_id}.{sent}.".encode() + body
    secrets = [secret] if isinstance(secret, str) else secret
    wanted = [_signature(one, signed) for one in secrets]
    found = [one.removeprefix("v1,") for one in signatures.split(" ") if one.startswith("v1,")]
    if not any(hmac.compare_digest(a.encode(), b.encode()) for a in wanted for b in found):
        raise BadSignature("no signature matches any of the secrets")
    try:
        return Event.model_validate_json(body)
    except ValidationError as error:
        raise BadSignature(f"the body is not an event: {error}") from error


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    if not key:
        raise ValueError("secret must not be empty")
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
