"""Histories keep the type of an error and where it arose, and none of its words."""

from __future__ import annotations

import psycopg
import pytest
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError

from infra.nodes.http import NodeUnreachable
from infra.temporal.access import DATA_CONVERTER

CANARY = "canary"


def nodes_answer() -> None:
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        raise NodeUnreachable(CANARY) from error


def while_handling() -> None:
    """Raise as `dispatch` does: the cause is only the context."""
    try:
        nodes_answer()
    except NodeUnreachable:
        raise ApplicationError("attempt 1 is unclear", type="DispatchAmbiguous")  # noqa: B904


def refused_by_postgres() -> None:
    raise psycopg.errors.InvalidTextRepresentation(f'invalid input syntax for type json: "{CANARY}"')


@pytest.mark.parametrize(
    ("fails", "message", "kind"),
    [
        (nodes_answer, "NodeUnreachable", "NodeUnreachable"),
        (while_handling, "attempt 1 is unclear", "DispatchAmbiguous"),
        (refused_by_postgres, "InvalidTextRepresentation 22P02", "InvalidTextRepresentation"),
    ],
)
async def test_words_of_others_are_left_out(fails, message, kind):
    with pytest.raises(Exception) as raised:  # noqa: PT011
        fails()
    failure = Failure()
    await DATA_CONVERTER.encode_failure(raised.value, failure)
    assert (failure.message, failure.application_failure_info.type) == (message, kind)
    assert fails.__name__ in failure.stack_trace
    assert CANARY not in str(failure)
