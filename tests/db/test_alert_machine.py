"""Alerts over any sequence of raising and acknowledging (INVARIANTS, 11), on the real database."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from infra.db.ops import alerts, counters
from infra.db.ops.alerts import NewAlert
from tests.db.machine import DatabaseMachine, drive, over
from workers.stack.stack import Stack
from workflows.domain.alert import AlertLevel, AlertStatus
from workflows.domain.errors import AlertNotFound


class Alerts(DatabaseMachine):
    """The model: by its key, each alert's level and who acknowledged it first."""

    @initialize()
    def begin(self) -> None:
        self.do(lambda c: c.execute("TRUNCATE alerts, counters, counter_deltas RESTART IDENTITY"))
        self.level: dict[str, AlertLevel] = {}
        self.by: dict[str, str] = {}
        self.since: dict[str, Any] = {}

    @rule(key=st.sampled_from("abcdef"), level=st.sampled_from(AlertLevel))
    def raise_one(self, key: str, level: AlertLevel) -> None:
        raised = self.do(lambda c: alerts.raise_alert(c, NewAlert(key, "t", "m", level, "s")))
        assert raised is (key not in self.level)
        self.level.setdefault(key, level)

    @rule(key=st.sampled_from("abcdef"), by=st.sampled_from(("ann", "bob")))
    def acknowledge(self, key: str, by: str) -> None:
        found = self.rows("SELECT seq FROM alerts WHERE cause = %(key)s", key=key)
        assert len(found) == (key in self.level)
        for (seq,) in found:
            self.do(partial(alerts.acknowledge, seq=seq, by=by))
            self.by.setdefault(key, by)

    @rule(seq=st.sampled_from((0, -1, 10**9, 2**63 - 1)))
    def acknowledge_what_is_not_there(self, seq: int) -> None:
        with pytest.raises(AlertNotFound):
            self.do(lambda c: alerts.acknowledge(c, seq, "ann"))

    @invariant()
    def the_first_acknowledgement_stays_whole(self) -> None:
        rows = self.rows("SELECT cause, level, status, acknowledged_by, acknowledged_at FROM alerts")
        assert {row[0]: row[1] for row in rows} == self.level
        for key, _, status, by, at in rows:
            assert status == (AlertStatus.ACKNOWLEDGED if key in self.by else AlertStatus.ACTIVE)
            assert by == self.by.get(key)
            assert (self.since.setdefault(key, at) == at) if key in self.by else at is None

    @invariant()
    def totals_by_level_are_totals_by_status(self) -> None:
        self.do(counters.fold)
        counts = self.do(counters.read).alerts
        for level in AlertLevel:
            assert sum(n for pair, n in counts.items() if level in pair) == list(self.level.values()).count(level)
        for status, n in (
            (AlertStatus.ACKNOWLEDGED, len(self.by)),
            (AlertStatus.ACTIVE, len(self.level) - len(self.by)),
        ):
            assert sum(count for pair, count in counts.items() if status in pair) == n
            rows, total = self.do(partial(alerts.page, filters={"status": status}, limit=100, offset=0))
            assert (len(rows), total) == (n, n)


@pytest.fixture
def machine(stack: Stack) -> Iterator[type[Alerts]]:
    with over(stack, "alert_machine", Alerts) as here:
        yield here


def test_an_alert_is_raised_once_and_acknowledged_once(machine: type[Alerts]) -> None:
    drive(machine, runs=30, steps=20)
