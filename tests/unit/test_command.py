"""How the input of a person's signal is read: whatever it holds, nothing fails."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.domain.command import deadline_of, epoch_of, read, reason_of
from workflows.domain.limits import LAST_MS, MAX_REASON

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["epoch", "reason", "deadline", "x"]), inner)
    ),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("given", "epoch", "reason"),
    [
        (b"", None, ""),
        (b"null", None, ""),
        (b"{}", None, ""),
        (b'{"reason": "ECC"}', None, "ECC"),
        (b'{"reason": " ECC ", "since": 3}', None, "ECC"),
        (b'"ECC"', None, "ECC"),
        (b'{"reason": 3}', None, ""),
        (b'{"reason": ["ECC"]}', None, ""),
        (b'["ECC"]', None, ""),
        (b"7", None, ""),
        (b'{"reason": "ECC"', None, ""),
        (b"\xff\xfe\x00", None, ""),
        (b"[" * 100_000, None, ""),
        (b"9" * 5_000, None, ""),
        (json.dumps({"reason": "x" * 10_000}).encode(), None, "x" * MAX_REASON),
        (b'{"epoch": 3}', 3, ""),
        (b'{"epoch": 3, "reason": "said by the previous version"}', 3, "said by the previous version"),
        (b'{"epoch": null, "reason": "ECC"}', None, "ECC"),
        (b'{"epoch": true}', None, ""),
        (b'{"epoch": "3"}', None, ""),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_inputs(given: bytes, epoch: int | None, reason: str) -> None:
    said = read(given)
    assert (epoch_of(said), reason_of(said)) == (epoch, reason)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_nothing_fails(given: bytes) -> None:
    said = read(given)
    assert epoch_of(said) is None or isinstance(epoch_of(said), int)
    assert len(reason_of(said)) <= MAX_REASON
    assert 0 < (deadline_of(said) or 1) <= LAST_MS


@pytest.mark.parametrize(
    "given", ["null", "true", "0", "-1", "1.5", "1e300", '"1703123456789"', "[1]", str(LAST_MS + 1)]
)
def test_what_can_be_no_deadline_is_none(given: str) -> None:
    assert deadline_of(read(b'{"reason": "fan", "deadline": ' + given.encode() + b"}")) is None


def test_a_deadline_is_in_milliseconds() -> None:
    assert deadline_of(read(b'{"deadline": 1703123456789}')) == 1703123456789
    assert deadline_of(read(b'"fan"')) is None
