"""Verdicts on failures, by what else happened."""

from __future__ import annotations

import pytest

from workflows.domain.attempt import Outcome
from workflows.domain.failure_verdict import Evidence, FailureVerdict, judge, suspect
from workflows.domain.fault_attribution import Comparison, Record, is_outlier

KIND = (1, "app:a")


def evidence(by_node, tasks, *, alike=0, done=0, attributed=99, outcome=Outcome.FAILED, **records):
    own = Record(*records.pop(suspect(by_node)))
    peers = {(1, name): Record(*one) for name, one in records.items()}
    return Evidence(outcome, by_node, tasks, alike, done, attributed, Comparison({KIND: own}, peers))


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (evidence({"a": 7}, 7, done=7, a=(7, 7), b=(50, 0)), FailureVerdict.NODE),
        (evidence({"a": 7}, 7, a=(7, 7), b=(50, 0)), FailureVerdict.NODE),  # without a retry nobody completes them
        (evidence({"a": 3}, 3, a=(4, 3), b=(50, 2)), FailureVerdict.NODE),
        (evidence({"a": 3, "b": 3}, 3, alike=3, a=(20, 3), b=(20, 3)), FailureVerdict.TASK),
        (evidence({"a": 9, "b": 8}, 17, a=(9, 9), b=(8, 8)), FailureVerdict.WORK),
        (evidence({"a": 9}, 9, a=(9, 9)), FailureVerdict.ALONE),
        (evidence({"a": 5}, 5, attributed=0, outcome=Outcome.TIMED_OUT, a=(9, 5), b=(9, 4)), FailureVerdict.LIMIT),
        (evidence({"a": 2, "b": 2}, 4, done=4, a=(50, 2), b=(50, 2)), FailureVerdict.CHANCE),
        (evidence({"a": 2, "b": 2}, 4, a=(50, 2), b=(50, 2)), FailureVerdict.CHANCE),
        (evidence({"a": 4, "b": 4}, 8, a=(10, 4), b=(10, 4)), FailureVerdict.UNKNOWN),
        (evidence({"a": 2}, 2, a=(2, 2), b=(50, 0)), FailureVerdict.UNKNOWN),
    ],
)  # fmt: skip
def test_a_verdict_fits_its_evidence(given, verdict):
    assert judge(given).verdict is verdict


def test_a_verdict_names_the_node_and_what_the_others_did():
    found = judge(evidence({"a": 1, "b": 7}, 8, a=(20, 1), b=(7, 7), c=(30, 0)))
    assert (found.verdict, found.gpu_id, found.own, found.others) == (
        FailureVerdict.NODE, "b", Record(7, 7), Record(50, 1)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("own", "peers"),
    [
        (Record(20, 9), {KIND: Record(200, 0)}),
        (Record(20, 9), {KIND: Record(200, 90)}),
        (Record(20, 9), {(1, "app:b"): Record(200, 0)}),  # nobody else has that work
        (Record(11, 0, lost=9), {KIND: Record(200, 0)}),  # nobody has completed what it failed
    ],
)
def test_a_node_that_fails_less_than_half_is_at_fault_where_containment_says_so(own, peers):
    compared = Comparison({KIND: own}, peers)
    found = judge(Evidence(Outcome.FAILED, {"a": 9, "b": 1}, 10, 0, 0, 9, compared))
    assert (found.verdict is FailureVerdict.NODE) is compared.is_outlier is is_outlier(compared.own, compared.peers)
