"""Reports of nodes about their attempts (specification §3.6, §3.7; INVARIANTS, "Races and their outcomes")."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from infra.db.attempts import late_reports, open_attempts
from infra.db.attempts import queries as attempt_queries
from infra.db.attempts.queries import Holder, NamedAttempt
from infra.db.connection import Connection
from infra.db.session import Database
from infra.db.tasks import queries as task_queries
from infra.db.transactions import accept_attempt, settle_attempt
from infra.db.transactions.settle_attempt import SettleResult
from infra.json import strict_json
from infra.json.off_loop import off_loop
from workflows.domain.attempt import UNSAID, End, Outcome
from workflows.domain.errors import ConflictingResult, IllegalTransition, LateReport, NotTheHolder, TaskNotFound
from workflows.domain.task import TaskStatus
from workflows.notifications import Notifications

UNNAMED = "未携带 X-Attempt-Token，无法确定所指的执行尝试"


@dataclass(frozen=True)
class Report:
    """The attempt and task that a node's report is about, and the node's words."""

    task_id: str
    token: str | None
    gpu_id: str | None
    lineage: str | None  # of the reporting node's key, or None for an administrator, who reports for any node
    ran_s: float = 0.0  # for how long the node has run it at least, if its acceptance is not recorded


@dataclass(frozen=True)
class StatusReport:
    """A node's report on the state of an attempt."""

    status: TaskStatus
    message: str | None = None
    progress: int | None = None
    rejected: bool = False  # with FAILED: the input can never work

    @property
    def end(self) -> End | None:
        """How it closes the attempt, if it does."""
        if self.status is TaskStatus.FAILED:
            outcome = Outcome.REJECTED if self.rejected else Outcome.FAILED
        elif self.status is TaskStatus.QUEUED:
            outcome = Outcome.HANDED_BACK
        else:
            return None
        return End(outcome, self.message or UNSAID[outcome])


@dataclass(frozen=True)
class KnownResult:
    """The result of an attempt that has succeeded."""

    attempt: int
    text: str


@dataclass(frozen=True)
class ReportOutcome:
    """The signals to send, and the refusal to answer once the late report is committed."""

    notifications: Notifications = field(default_factory=Notifications)
    refusal: Exception | None = None
    known: KnownResult | None = None  # the attempt has succeeded already, and its result is written otherwise


async def status(connection: Connection, report: Report, said: StatusReport) -> ReportOutcome:
    """Handle PROCESSING, FAILED or QUEUED of an attempt. Raises TaskNotFound, NotTheHolder, IllegalTransition."""
    attempt = await _find(connection, report)
    if said.status in {TaskStatus.COMPLETED, TaskStatus.TIMEOUT}:
        raise IllegalTransition("COMPLETED 由结果上报产生，TIMEOUT 由系统判定")
    if attempt is not None and attempt.closed_at is None:
        if (outcome := await _apply(connection, attempt, said)) is not None:
            return outcome
        attempt = await _closed(connection, attempt)
    if attempt is not None and said.end is not None and attempt.outcome == said.end.outcome:
        return ReportOutcome()
    return await _late(connection, report, attempt, said.status, said.message or "")


async def _apply(connection: Connection, attempt: NamedAttempt, said: StatusReport) -> ReportOutcome | None:
    """Apply it to an open attempt. Returns None if the attempt has been closed meanwhile."""
    if said.end is not None:
        return await _settle(connection, attempt, said.end)
    key, actor = (attempt.task_id, attempt.attempt), f"gpu:{attempt.gpu_id}"
    if not await accept_attempt.accept(connection, *key, actor=actor, reason=said.message or None):
        return None
    if said.progress is not None:
        await open_attempts.record_progress(connection, *key, said.progress)
    return ReportOutcome()


async def take_result(database: Database, report: Report, text: str) -> ReportOutcome:
    """Accept the result of an attempt. The same result again is accepted again; a different one is refused.

    Once the result is forgotten, nothing is compared: any repetition is accepted.

    No transaction is open while two texts are compared, which may take long. Raises TaskNotFound, NotTheHolder.
    """
    outcome = await database.run(lambda c: result(c, report, text))
    known = outcome.known
    if known is None or await off_loop.run(len(text), partial(strict_json.same_text, known.text, text)):
        return outcome
    await database.run(lambda c: late_reports.keep_late(c, report.task_id, known.attempt, "result", text))
    return ReportOutcome(refusal=ConflictingResult())


async def end_refused(connection: Connection, report: Report, end: End) -> Notifications:
    """Close the open attempt whose node has reported its end in a report that is refused.

    A refusal is final: the node sends nothing more, and the attempt would last until its deadline, as would the next
    one. Nothing happens unless the caller holds the attempt, by its token or by the rule for reports without one.
    """
    try:
        attempt = await _find(connection, report)
    except (TaskNotFound, NotTheHolder):
        return Notifications()
    if attempt is None or attempt.closed_at is not None:
        return Notifications()
    outcome = await _settle(connection, attempt, end)
    return Notifications() if outcome is None else outcome.notifications


async def result(connection: Connection, report: Report, text: str) -> ReportOutcome:
    """Do as `take_result`, but return a different stored result as `known`. Raises TaskNotFound, NotTheHolder."""
    attempt = await _find(connection, report)
    if attempt is not None and attempt.closed_at is None:
        outcome = await _settle(connection, attempt, End(Outcome.SUCCEEDED, result=text, ran_s=report.ran_s))
        if outcome is not None:
            return outcome
        attempt = await _closed(connection, attempt)
    if attempt is None or attempt.outcome != Outcome.SUCCEEDED:
        return await _late(connection, report, attempt, "result", text)
    assert attempt.result is not None  # it was stored with the outcome
    same = attempt.purged or attempt.result == text
    return ReportOutcome(known=None if same else KnownResult(attempt.attempt, attempt.result))


async def _settle(connection: Connection, attempt: NamedAttempt, end: End) -> ReportOutcome | None:
    """Close an open attempt. Returns None if it has been closed meanwhile."""
    actor = f"gpu:{attempt.gpu_id}"
    settled = await settle_attempt.settle(connection, attempt.task_id, attempt.attempt, end, actor=actor)
    return None if settled.answer is SettleResult.CLOSED_BEFORE else ReportOutcome(settled.notifications)


async def _closed(connection: Connection, attempt: NamedAttempt) -> NamedAttempt:
    """The current, and final, state of an attempt that somebody else has closed since it was found."""
    found = await attempt_queries.find(connection, attempt.task_id, attempt.token)
    assert found is not None
    assert found.closed_at is not None
    return found


async def _find(connection: Connection, report: Report) -> NamedAttempt | None:
    """The attempt that the report means, or None if the task has no such attempt. Raises TaskNotFound, NotTheHolder."""
    token = report.token
    if token is None or report.lineage is not None:
        held = await attempt_queries.holders(connection, report.task_id, report.lineage)
        await _check_holder(connection, report, held)
        token = token or _only_token(held)
    found = None if token is None else await attempt_queries.find(connection, report.task_id, token)
    if found is None:
        await _must_exist(connection, report.task_id)
    if found is not None and report.gpu_id not in {None, found.gpu_id}:
        return None
    return found


async def _check_holder(connection: Connection, report: Report, held: list[Holder]) -> None:
    """Raise NotTheHolder unless the report's GPU is the caller's and has held the task.

    A token of somebody else's attempt is refused even if the caller has held the task before.
    """
    named = [one for one in held if one.token == report.token] or held
    if report.lineage is not None and not any(one.own and report.gpu_id in {None, one.gpu_id} for one in named):
        await _must_exist(connection, report.task_id)
        raise NotTheHolder


def _only_token(held: list[Holder]) -> str | None:
    """The token of the caller's only attempt of the task. With several attempts it is ambiguous which one is meant."""
    own = [one.token for one in held if one.own]
    return own[0] if len(own) == 1 else None


async def _must_exist(connection: Connection, task_id: str) -> None:
    if await task_queries.get(connection, task_id) is None:
        raise TaskNotFound


async def _late(
    connection: Connection, report: Report, attempt: NamedAttempt | None, kind: str, body: str
) -> ReportOutcome:
    await late_reports.keep_late(connection, report.task_id, attempt.attempt if attempt else None, str(kind), body)
    return ReportOutcome(refusal=LateReport(UNNAMED if attempt is None and report.token is None else ""))
