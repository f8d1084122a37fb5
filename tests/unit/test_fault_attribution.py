"""Fault attribution as pure rules: the table of outcomes, alike failures, outliers, a node's record and its rests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.domain import node_record
from workflows.domain.attempt import ASKS_ANOTHER, RULES, ForNode, ForTask, Outcome
from workflows.domain.fault_attribution import (
    POISON_NODES,
    PROMISED_RETRIES,
    Failure,
    Record,
    failed_alike_on,
    has_room,
    is_nodes_failure,
    is_outlier,
    signature,
)
from workflows.domain.node_record import NodeRecord, RestCause
from workflows.domain.retry import History, RetryDecision, judge
from workflows.domain.task import TERMINAL, TaskStatus

WORK, OTHER = (1, "app:a"), (1, "app:b")


def failed(gpu_id: str, reason: str | None = "boom", outcome: Outcome = Outcome.FAILED) -> Failure:
    return Failure(gpu_id, outcome, reason)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("boom", "boom", True),
        ("boom", "bang", False),
        ("segfault at 0x7f3a12 in pid 48213", "segfault at 0x55B0 in pid 9120", True),
        ("a\n  b", "a b", True),
        ("exit status 1", "exit status 137", False),
        ("CUDA error 1234", "CUDA error 5678", False),
        ("no loss in step 12", "no loss in step 13", True),
        ("at x " * 200 + "in y", "at x " * 200 + "in z", False),
        (None, "", True),
    ],
)
def test_failures_are_alike_by_their_reason(one, other, alike):
    assert (failed("a", one).way == failed("b", other).way) is alike


@pytest.mark.parametrize(
    ("reason", "without"),
    [
        ("CUDA error 700 at 0x7f30 in task_0ab12c, step 3/50", "CUDA error 700 at # in #, step #/#"),
        ("out of memory: 12345 MiB  of 24576", "out of memory: # MiB of #"),
        ("exit code 137", "exit code 137"),
        ("errno=28 on /tmp/x9", "errno=28 on /tmp/x#"),
        ("took 3.25 s, error 0x1f", "took # s, error #"),
        ("id 0b4e8c1e-8a1f-4c0e-9f55-000000000001 is gone", "id # is gone"),
        ("gpu_07 deadbeef decade1 facade", "gpu_# deadbeef decade# facade"),
    ],
)
def test_a_signature_is_without_numbers_and_ids(reason, without):
    assert signature(reason) == without


def test_timeouts_are_alike_whatever_was_said_and_never_like_a_failure():
    assert failed("a", "x", Outcome.TIMED_OUT).way == failed("b", "y", Outcome.TIMED_OUT).way
    assert failed("a", None, Outcome.TIMED_OUT).way != failed("b", None).way


def test_only_distinct_nodes_count_and_only_those_that_failed_alike():
    earlier = [failed("a"), failed("a"), failed("b", "bang"), failed("c", outcome=Outcome.TIMED_OUT)]
    assert failed_alike_on(earlier, failed("d")) == {"a", "d"}


@given(st.lists(st.sampled_from("ab"), max_size=6))
def test_the_first_node_is_always_at_fault_and_none_after_another_failed_alike(nodes):
    for number, gpu_id in enumerate(nodes):
        at_fault = is_nodes_failure([failed(one) for one in nodes[:number]], failed(gpu_id))
        assert at_fault is (set(nodes[:number]) <= {gpu_id})


@pytest.mark.parametrize(
    ("outcome", "status"), [(Outcome.FAILED, TaskStatus.FAILED), (Outcome.TIMED_OUT, TaskStatus.TIMEOUT)]
)
def test_a_task_that_three_nodes_failed_alike_has_the_promised_retries_and_no_more(outcome, status):
    def end(retry_count: int, nodes: int) -> RetryDecision:
        return judge(outcome, retry_count=retry_count, max_retries=9, history=History(failed_alike_on=nodes))

    two, early = end(PROMISED_RETRIES, POISON_NODES - 1), end(PROMISED_RETRIES - 1, POISON_NODES)
    three, last = end(PROMISED_RETRIES, POISON_NODES), end(9, POISON_NODES)
    assert [(one.status, one.given_up) for one in (two, early)] == [(TaskStatus.QUEUED, False)] * 2
    assert (three.status, three.retry_count, three.given_up) == (status, PROMISED_RETRIES, True)
    assert (last.status, last.given_up) == (status, False)


@given(
    st.sampled_from(sorted(set(Outcome) - {Outcome.TASK_ENDED})), st.integers(0, 5), st.integers(0, 5),
    st.integers(0, 4), st.integers(0, 4), st.booleans(),
)  # fmt: skip
def test_only_what_uses_a_retry_or_asks_another_node_can_fail_a_task(outcome, used, left, rejected_by, errors, others):
    history = History(rejected_by=rejected_by, protocol_errors=errors, others=others)
    verdict = judge(outcome, retry_count=used, max_retries=used + left, history=history)
    assert (verdict.retry_count != used) == (RULES[outcome].task is ForTask.RETRIES and left > 0)
    if RULES[outcome].task is ForTask.WAITS:
        assert verdict.status is TaskStatus.QUEUED
    if verdict.status in TERMINAL and outcome in ASKS_ANOTHER:
        believed = rejected_by >= 2 or not others if outcome is Outcome.REJECTED else errors >= 3
        assert believed


@pytest.mark.parametrize(
    ("rejected_by", "others", "status"),
    [(1, True, TaskStatus.QUEUED), (1, False, TaskStatus.FAILED), (2, True, TaskStatus.FAILED)],
)
def test_a_rejection_is_believed_when_a_second_node_says_so_or_there_is_none(rejected_by, others, status):
    history = History(rejected_by=rejected_by, others=others)
    assert judge(Outcome.REJECTED, retry_count=0, max_retries=3, history=history).status is status


@pytest.mark.parametrize(
    ("timeout_ms", "usual_s", "room"),
    [(1, 1.0, False), (2999, 1.0, False), (3000, 1.0, True), (179_999, None, False), (180_000, None, True)],
)
def test_a_limit_has_room_where_it_is_three_times_what_is_usual(timeout_ms, usual_s, room):
    assert has_room(timeout_ms, usual_s) is room


def test_four_tasks_that_peers_completed_make_an_outlier_beside_well_known_peers():
    assert is_outlier({WORK: Record(4, 4)}, {WORK: Record(20, 0)})
    assert is_outlier({WORK: Record(10, 5)}, {WORK: Record(50, 0)})
    assert not is_outlier({WORK: Record(3, 3)}, {WORK: Record(1000, 0)})


def test_with_little_known_of_the_peers_it_takes_more():
    assert not is_outlier({WORK: Record(4, 4)}, {WORK: Record(4, 0)})
    assert is_outlier({WORK: Record(7, 7)}, {WORK: Record(7, 0)})
    assert not is_outlier({WORK: Record(20, 4)}, {})


def test_work_that_fails_now_and_then_everywhere_accuses_nobody():
    assert not is_outlier({WORK: Record(10, 6)}, {WORK: Record(50, 15)})
    assert is_outlier({WORK: Record(20, 20)}, {WORK: Record(50, 15)})


def test_much_work_of_a_flaky_flow_accuses_nobody_though_the_peers_complete_the_work_of_others():
    assert not is_outlier({WORK: Record(10, 6)}, {WORK: Record(10, 4), OTHER: Record(500, 0)})
    assert is_outlier({WORK: Record(10, 6), OTHER: Record(4, 4)}, {WORK: Record(10, 4), OTHER: Record(500, 0)})


RECORDS = st.dictionaries(
    st.sampled_from([WORK, OTHER]),
    st.integers(1, 20).flatmap(lambda n: st.integers(0, n).map(lambda k: Record(n, k))),
    min_size=1,
)


@given(RECORDS, RECORDS)
def test_failing_more_is_never_judged_milder_and_failing_peers_never_harder(own, peers):
    if is_outlier(own, peers):
        for kind, record in own.items():
            if 0 < record.failed < record.ended:
                assert is_outlier(own | {kind: Record(record.ended, record.failed + 1)}, peers)
    else:
        for kind, record in peers.items():
            if record.failed < record.ended:
                assert not is_outlier(own, peers | {kind: Record(record.ended, record.failed + 1)})


def after(*ends: tuple[Outcome, str]) -> NodeRecord:
    record = NodeRecord()
    for outcome, task_id in ends:
        record, _ = node_record.after(record, outcome, task_id=task_id, flow="f")
    return record


ENDS = st.lists(st.tuples(st.sampled_from(list(Outcome)), st.sampled_from("abcde")), max_size=30)


@given(ENDS)
def test_a_success_ends_every_count_and_rest(ends):
    record, rest = node_record.after(after(*ends), Outcome.SUCCEEDED, task_id="t", flow="f")
    assert (record, rest) == (NodeRecord(), None)


@given(ENDS)
def test_a_node_rests_for_failures_exactly_from_the_third_distinct_task_in_a_row(ends):
    failed: set[str] = set()
    record = NodeRecord()
    for outcome, task_id in ends:
        record, rest = node_record.after(record, outcome, task_id=task_id, flow="f")
        if outcome is Outcome.SUCCEEDED:
            failed = set()
        elif RULES[outcome].node is ForNode.FAILED:
            failed.add(task_id)
            assert (rest is not None) is (len(failed) >= 3)
        assert record.probes is (len(failed) >= 3)


@given(ENDS)
def test_no_rest_is_shorter_than_a_second_or_longer_than_a_minute_and_each_in_a_row_is_longer(ends):
    record, last = NodeRecord(), {cause: 0.0 for cause in RestCause}
    for outcome, task_id in ends:
        record, rest = node_record.after(record, outcome, task_id=task_id, flow="f")
        if outcome is Outcome.SUCCEEDED:
            last = {cause: 0.0 for cause in RestCause}
        elif rest is not None and rest.cause in {RestCause.FAILS, RestCause.HANDS_BACK}:
            assert 1 <= rest.pause_s <= 60
            assert rest.pause_s == min(max(1, 2 * last[rest.cause]), 60)
            last[rest.cause] = rest.pause_s


@given(st.integers(1, 40))
def test_what_ran_beside_the_failures_that_began_a_rest_makes_it_no_longer(others):
    record = after(*[(Outcome.FAILED, task_id) for task_id in "abc"])
    for number in range(others):
        record, rest = node_record.after(record, Outcome.FAILED, task_id=f"{number}", flow="f", since_rest=False)
        assert (record.rests, rest) == (1, None)
    record, rest = node_record.after(record, Outcome.FAILED, task_id="probe", flow="f")
    assert (record.task_failures, rest and rest.pause_s) == (others + 4, 2)


@pytest.mark.parametrize("outcome", [one for one in Outcome if RULES[one].node in {
    ForNode.HANDED_BACK, ForNode.OUT_OF_CONTACT,
}])  # fmt: skip
def test_of_what_a_node_refuses_at_once_the_first_lets_it_rest(outcome):
    record, rest = node_record.after(NodeRecord(), outcome, task_id="a", flow="f")
    assert rest is not None
    record, rest = node_record.after(record, outcome, task_id="b", flow="f", since_rest=False)
    assert (record.hand_backs + record.failed_contacts, rest) == (2, None)


@pytest.mark.parametrize("outcome", [one for one in Outcome if RULES[one].node is ForNode.NOTHING])
@given(ends=ENDS)
def test_a_lost_or_withdrawn_attempt_says_nothing_of_the_node(outcome, ends):
    before = after(*ends)
    assert node_record.after(before, outcome, task_id="t", flow="f") == (before, None)


@given(ENDS)
def test_a_failure_that_is_not_the_nodes_leaves_it_alone(ends):
    before = after(*ends)
    record, rest = node_record.after(before, Outcome.TIMED_OUT, task_id="t", flow="f", attributed=False)
    assert (record, rest) == (before, None)


@given(ENDS, st.sampled_from("abcde"))
def test_an_excuse_takes_back_what_a_task_has_counted_once(ends, task_id):
    before = after(*ends)
    excused = node_record.excused(before, task_id)
    assert excused.task_failures == before.task_failures - before.failed_tasks.count(task_id)
    assert task_id not in excused.failed_tasks
    assert excused.probes is (len(set(before.failed_tasks) - {task_id}) >= 3)
    assert node_record.excused(excused, task_id) == excused
