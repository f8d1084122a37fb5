"""Webhooks signed by a library that is not ours."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from gpu_orchestrator_client import BadSignature, verify_webhook

SECRET, OTHER = "whsec_" + "c2VjcmV0" * 4, "whsec_" + "b3RoZXIx" * 4  # pragma: allowlist secret
BODY = json.dumps({"id": "evt_1", "type": "task.ended", "time": 1703123456789, "taskId": "t", "data": {"seq": 3}})


def signed(secret: str = SECRET, age_s: float = 0.0) -> dict[str, str]:
    sent = datetime.fromtimestamp(time.time() - age_s, UTC)
    return {
        "Webhook-Id": "evt_1",
        "Webhook-Timestamp": str(int(sent.timestamp())),
        "Webhook-Signature": Webhook(secret).sign("evt_1", sent, BODY),
    }


def test_a_webhook_of_ours_is_its_event() -> None:
    event = verify_webhook(BODY.encode(), signed(), SECRET)
    assert (event.id, event.type, event.task_id, event.data) == ("evt_1", "task.ended", "t", {"seq": 3})


def test_both_secrets_of_a_rotation_count() -> None:
    both = signed() | {"Webhook-Signature": f"v1a,x {signed(OTHER)['Webhook-Signature']}"}
    assert verify_webhook(BODY.encode(), both, [SECRET, OTHER]).id == "evt_1"


@pytest.mark.parametrize(
    "headers",
    [
        lambda: signed(OTHER),
        lambda: signed() | {"Webhook-Id": "evt_2"},
        lambda: signed(age_s=400),
        lambda: signed(age_s=-400),
        lambda: signed() | {"Webhook-Signature": ""},
        lambda: signed() | {"Webhook-Signature": "v1,ü"},
        lambda: signed() | {"Webhook-Timestamp": "soon"},
        lambda: signed() | {"Webhook-Timestamp": "9" * 400},
        dict,
    ],
)
def test_anything_else_is_refused(headers: Callable[[], dict[str, str]]) -> None:
    with pytest.raises(BadSignature):
        verify_webhook(BODY.encode(), headers(), SECRET)


def test_a_body_that_was_changed_is_refused() -> None:
    with pytest.raises(BadSignature):
        verify_webhook(BODY.replace("task.ended", "task.created").encode(), signed(), SECRET)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!", ["whsec_"]])
def test_what_is_no_secret_verifies_nothing(secret: str | list[str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        verify_webhook(BODY.encode(), signed(), secret)
