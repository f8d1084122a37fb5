"""A node over any sequence of what may happen to it (INVARIANTS, "Legal transitions"), on the real database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from infra.db.connection import Connection
from infra.db.nodes import queries as node_queries
from infra.db.nodes import transitions as node_transitions
from infra.db.nodes.drains import Drain
from infra.db.nodes.queries import Registration
from infra.db.ops import counters
from infra.db.slots import eligibility
from infra.db.transactions import node_state
from tests.db.machine import DatabaseMachine, drive, over
from workers.stack.stack import Stack
from workflows.domain.errors import GpuNotFound
from workflows.domain.gpu import TRANSITIONS, GpuStatus

NAMES = st.sampled_from(("n1", "n2"))
EMPTY = "TRUNCATE gpus, gpu_beats, alerts, counters, counter_deltas"
ACTIVE, OFFLINE, FAULTY = GpuStatus.ACTIVE, GpuStatus.OFFLINE, GpuStatus.FAULTY


class Nodes(DatabaseMachine):
    """The model knows a node's status (None: not registered), how often it has registered, who left FAULTY, and the
    reason of each drain."""

    @initialize()
    def begin(self) -> None:
        self.do(lambda c: c.execute(EMPTY))
        self.status: dict[str, GpuStatus | None] = {"n1": None, "n2": None}
        self.epoch = {"n1": 0, "n2": 0}
        self.alerts: set[tuple[str, GpuStatus]] = set()
        self.left_faulty: set[str] = set()
        self.drains: dict[str, str] = {}

    @rule(name=NAMES)
    def register(self, name: str) -> None:
        node = Registration(name, "h", None, "127.0.0.1", 1, [1], "NORMAL", "1", 1, {}, None, "k")
        self.do(lambda c: node_state.register(c, node))
        self.epoch[name] += 1
        if self.status[name] is not FAULTY:  # only recover ends that
            self.move(name, FAULTY if name in self.left_faulty else ACTIVE)

    @rule(name=NAMES)
    def a_beat_comes_back(self, name: str) -> None:
        self.known(name, lambda c: node_state.come_back(c, name))
        if self.status[name] is OFFLINE:
            self.move(name, ACTIVE)

    @rule(name=NAMES)
    def beats_lapse(self, name: str) -> None:
        moved = self.do(lambda c: node_transitions.go_offline(c, name))
        assert moved is (self.status[name] is ACTIVE)
        if moved:
            self.move(name, OFFLINE)
            self.alerts.add((name, OFFLINE))

    @rule(name=NAMES)
    def fault(self, name: str) -> None:
        notifications = self.known(name, lambda c: node_state.fault(c, name, "test"))
        if self.status[name] in (ACTIVE, OFFLINE):
            assert [(event.gpu_id, event.signal) for event in notifications.nodes] == [(name, "fault")]
            self.move(name, FAULTY)
            self.alerts.add((name, FAULTY))
        elif notifications is not None:
            assert not notifications

    @rule(name=NAMES)
    def recover(self, name: str) -> None:
        notifications = self.known(name, lambda c: node_state.recover(c, name))
        if self.status[name] is FAULTY:
            assert [(event.gpu_id, event.signal) for event in notifications.nodes] == [(name, "recover")]
            self.move(name, ACTIVE)
            ((silent_s,),) = self.rows(
                "SELECT extract(epoch FROM clock_timestamp() - at) FROM gpu_beats WHERE gpu_id = %(name)s", name=name
            )
            assert silent_s < 5  # a fresh grace window
        elif notifications is not None:
            assert not notifications

    @rule(name=NAMES, reason=st.sampled_from(("fan", "disk")))
    def drain(self, name: str, reason: str) -> None:
        notifications = self.known(name, lambda c: node_state.drain(c, name, Drain("test", reason)))
        if self.status[name] is not None:
            assert bool(notifications) is (self.drains.get(name) != reason)
            self.drains[name] = reason

    @rule(name=NAMES)
    def undrain(self, name: str) -> None:
        notifications = self.known(name, lambda c: node_state.undrain(c, name))
        if self.status[name] is not None:
            assert bool(notifications) is (self.drains.pop(name, None) is not None)

    @rule(name=NAMES)
    def deregister(self, name: str) -> None:
        self.known(name, lambda c: node_state.deregister(c, name))
        if self.status[name] is not None:
            (self.left_faulty.add if self.status[name] is FAULTY else self.left_faulty.discard)(name)
            self.move(name, None)

    @invariant()
    def the_rows_are_as_the_model_says(self) -> None:
        for name, status in self.status.items():
            row = self.do(partial(node_queries.get, gpu_id=name))
            assert (None if row is None else (row.status, row.epoch)) == (
                None if status is None else (status, self.epoch[name])
            )

    @invariant()
    def only_undrain_ends_a_drain(self) -> None:
        there = self.rows("SELECT gpu_id, drain_reason FROM gpus WHERE drained_at IS NOT NULL")
        assert dict(there) == self.drains

    @invariant()
    def only_a_node_that_works_takes_a_task(self) -> None:
        for name, status in self.status.items():
            (works,) = self.rows(
                f"SELECT count(*) FROM gpus g WHERE g.gpu_id = %(n)s AND {eligibility.works('g')}", n=name
            )
            assert works == (int(status is ACTIVE and name not in self.drains),)

    @invariant()
    def the_counts_are_those_of_the_rows(self) -> None:
        self.do(counters.fold)
        kept = {status: n for status, n in self.do(counters.read).gpus.items() if n}
        there = [status for status in self.status.values() if status is not None]
        assert kept == {status: there.count(status) for status in there}

    @invariant()
    def each_node_and_cause_has_one_alert(self) -> None:
        assert self.rows("SELECT count(*) FROM alerts") == [(len(self.alerts),)]

    def move(self, name: str, after: GpuStatus | None) -> None:
        if self.status[name] is not after:
            assert (self.status[name], after) in TRANSITIONS
            self.status[name] = after

    def known(self, name: str, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        """The answer of `work` for a registered node; any other node is refused."""
        if self.status[name] is not None:
            return self.do(work)
        with pytest.raises(GpuNotFound):
            self.do(work)
        return None


@pytest.fixture
def machine(stack: Stack) -> Iterator[type[Nodes]]:
    with over(stack, "node_machine", Nodes) as here:
        yield here


def test_a_node_takes_the_transitions_of_the_table_and_no_other(machine: type[Nodes]) -> None:
    drive(machine, runs=40, steps=25)
