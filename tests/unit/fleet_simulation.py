"""A fleet in simulated time under the rules of fault attribution: what becomes of its nodes and of everybody's tasks.

`python -m tests.unit.fleet_simulation` prints the figures of docs/adr/0026. Selection and assignment are those of the
product in short: the oldest task of the flow whose turn it is, on the node with the fewest failures in a row.
"""

from __future__ import annotations

import heapq
import random
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from tests.unit.simulated_work import BAD, MIXES, Behaviour, Mix, Work, good, hurried, sound
from workflows.domain import node_record
from workflows.domain.attempt import COMPARED, REQUEUES, USES_RETRY, Outcome
from workflows.domain.fault_attribution import (
    POISON_NODES,
    RECENT,
    RECENT_OF_PEER,
    Failure,
    Kind,
    Record,
    failed_alike_on,
    is_nodes_failure,
    is_outlier,
)
from workflows.domain.node_record import NodeRecord
from workflows.domain.retry import History, judge
from workflows.domain.task import TaskStatus

AVOID_S = 30.0


@dataclass
class SimulatedTask:
    """A task with what the rules need to know of it."""

    number: int
    flow: str
    work: Work
    created_at: float
    failures: list[Failure] = field(default_factory=list)
    barred_on: set[str] = field(default_factory=set)
    rejected_by: set[str] = field(default_factory=set)
    protocol_errors: int = 0
    failed_on: list[str] = field(default_factory=list)
    avoid_until: float = 0.0
    retries: int = 0
    attempts: int = 0
    status: TaskStatus = TaskStatus.QUEUED
    ended_at: float = 0.0
    reason: str = ""
    winner: str = ""


@dataclass
class SimulatedNode:
    """A node with its record, its rest, and the last attempts on which it is compared."""

    gpu_id: str
    behaviour: Behaviour
    slots: int
    record: NodeRecord = field(default_factory=NodeRecord)
    running: int = 0
    rests_until: float = 0.0
    rested_s: float = 0.0
    took: int = 0
    faulty_at: float | None = None
    done: deque[tuple[SimulatedTask, bool]] = field(default_factory=lambda: deque(maxlen=RECENT_OF_PEER))

    def free(self, now: float) -> bool:
        """Whether it has a slot for another task."""
        room = 1 if self.record.probes else self.slots
        return self.faulty_at is None and now >= self.rests_until and self.running < room


class Fleet:
    """Runs tasks until all have ended, or nothing happens any more."""

    def __init__(self, behaviours: Iterable[Behaviour], *, seed: int, slots: int = 1, usual_s: float = 1.0) -> None:
        self.rng = random.Random(seed)
        self.nodes = {f"n{i}": SimulatedNode(f"n{i}", one, slots) for i, one in enumerate(behaviours)}
        self.tasks: list[SimulatedTask] = []
        self.now = 0.0
        self._usual_s = usual_s
        self._waiting: dict[str, deque[SimulatedTask]] = defaultdict(deque)
        self._turns: deque[str] = deque()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def run(self, arrivals: Iterable[tuple[float, str, Work]], *, until_s: float = 1e6) -> Fleet:
        """Let tasks arrive at their times, and go on until nothing happens any more."""
        for at, flow, work in arrivals:
            task = SimulatedTask(len(self.tasks), flow, work, at)
            self.tasks.append(task)
            self._at(at, partial(self._wait, task))
        while self._events and self.now < until_s:
            self.now, _, happens = heapq.heappop(self._events)
            happens()
            self._assign()
        return self

    def _at(self, moment: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._order), happens))

    def _wait(self, task: SimulatedTask) -> None:
        self._waiting[task.flow].append(task)
        if task.flow not in self._turns:
            self._turns.append(task.flow)

    def _assign(self) -> None:
        free = [node for node in self.nodes.values() if node.free(self.now)]
        self.rng.shuffle(free)
        for node in sorted(free, key=lambda one: (one.running / one.slots, one.record.task_failures)):
            while node.free(self.now) and (task := self._best(node)) is not None:
                self._start(node, task)

    def _best(self, node: SimulatedNode) -> SimulatedTask | None:
        flows = [flow for flow in self._turns if self._waiting[flow]]
        if node.record.probes:
            flows.sort(key=lambda flow: flow == node.record.failed_flow)
        for flow in flows:
            for task in list(self._waiting[flow])[:16]:
                if self._may_take(node, task):
                    self._waiting[flow].remove(task)
                    self._turns.remove(flow)
                    self._turns.append(flow)
                    return task
        return None

    def _may_take(self, node: SimulatedNode, task: SimulatedTask) -> bool:
        if node.gpu_id in task.barred_on and self._others(task):
            return False
        alive = {one.gpu_id for one in self.nodes.values() if one.faulty_at is None}
        return not (node.gpu_id in task.failed_on and self.now < task.avoid_until and alive - set(task.failed_on))

    def _others(self, task: SimulatedTask) -> bool:
        return any(one.faulty_at is None and one.gpu_id not in task.barred_on for one in self.nodes.values())

    def _start(self, node: SimulatedNode, task: SimulatedTask) -> None:
        node.running += 1
        node.took += 1
        task.attempts += 1
        ends = node.behaviour(self.rng) or task.work(self.rng)
        outcome, reason, after_s = ends or (Outcome.SUCCEEDED, "", self._usual_s * self.rng.uniform(0.5, 1.5))
        began_at = self.now
        self._at(self.now + after_s, lambda: self._end(node, task, outcome, reason, began_at))

    def _end(self, node: SimulatedNode, task: SimulatedTask, outcome: Outcome, reason: str, began_at: float) -> None:
        node.running -= 1
        failure = Failure(node.gpu_id, outcome, reason)
        attributed = outcome in USES_RETRY and task.work is not hurried and is_nodes_failure(task.failures, failure)
        if outcome in USES_RETRY:
            task.failures.append(failure)
        if outcome in COMPARED and (outcome is not Outcome.TIMED_OUT or attributed):
            node.done.append((task, outcome is Outcome.SUCCEEDED))
        node.record, rest = node_record.after(
            node.record,
            outcome,
            task_id=str(task.number),
            flow=task.flow,
            attributed=attributed,
            since_rest=began_at >= node.rests_until,
        )
        if rest is not None:
            node.rests_until = max(node.rests_until, self.now + rest.pause_s)
            node.rested_s += rest.pause_s
            self._at(node.rests_until, lambda: None)
        elif outcome is Outcome.SUCCEEDED:
            node.rests_until = 0.0
        self._collect(node, task, outcome, failure)

    def _collect(self, node: SimulatedNode, task: SimulatedTask, outcome: Outcome, failure: Failure) -> None:
        if outcome is Outcome.REJECTED:
            task.rejected_by.add(node.gpu_id)
        if outcome in {Outcome.REJECTED, Outcome.PROTOCOL_ERROR}:
            task.barred_on.add(node.gpu_id)
        task.protocol_errors += outcome is Outcome.PROTOCOL_ERROR
        if outcome in USES_RETRY:
            task.failed_on.append(node.gpu_id)
            task.avoid_until = self.now + AVOID_S
        alike = len(failed_alike_on(task.failures, failure)) if outcome in USES_RETRY else 1
        history = History(alike, len(task.rejected_by), task.protocol_errors, self._others(task))
        verdict = judge(outcome, retry_count=task.retries, max_retries=3, history=history)
        task.retries = verdict.retry_count
        if verdict.status is TaskStatus.QUEUED:
            pause = verdict.pause_s if outcome not in REQUEUES else 0.0
            self._at(self.now + pause, lambda: self._wait(task))
            return
        task.status, task.ended_at, task.reason = verdict.status, self.now, failure.reason or ""
        self._review(task, node.gpu_id if outcome is Outcome.SUCCEEDED else "")

    def _review(self, task: SimulatedTask, winner: str) -> None:
        task.winner = winner
        if winner:
            failed = {one.gpu_id for one in task.failures} | task.barred_on
            for gpu_id in failed - {winner}:
                self._compare(self.nodes[gpu_id])
        elif task.failures:
            alike = failed_alike_on(task.failures, task.failures[-1])
            for gpu_id in alike if len(alike) >= POISON_NODES else ():
                node = self.nodes[gpu_id]
                node.record = node_record.excused(node.record, str(task.number))
                if not node.record.probes:
                    node.rests_until = 0.0

    def _compare(self, node: SimulatedNode) -> None:
        peers: dict[Kind, Counter[bool]] = defaultdict(Counter)
        for peer in self.nodes.values():
            if peer is not node and peer.faulty_at is None:
                for kind, record in _of_peer(peer).items():
                    peers[kind].update({True: record.failed, False: record.ended - record.failed})
        together = {kind: Record(counts.total(), counts[True]) for kind, counts in peers.items()}
        if node.faulty_at is None and is_outlier(_own(node), together):
            node.faulty_at = self.now


def _own(node: SimulatedNode) -> Mapping[Kind, Record]:
    return _counted(
        (task, not succeeded and task.winner not in {"", node.gpu_id})
        for task, succeeded in list(node.done)[-RECENT:]
        if task.status not in {TaskStatus.FAILED, TaskStatus.TIMEOUT}
    )


def _of_peer(node: SimulatedNode) -> Mapping[Kind, Record]:
    return _counted(
        (task, not succeeded)
        for task, succeeded in node.done
        if task.status not in {TaskStatus.FAILED, TaskStatus.TIMEOUT}
    )


def _counted(attempts: Iterable[tuple[SimulatedTask, bool]]) -> Mapping[Kind, Record]:
    ended: dict[Kind, set[int]] = defaultdict(set)
    failed: dict[Kind, set[int]] = defaultdict(set)
    for task, has_failed in attempts:
        ended[1, task.flow].add(task.number)
        if has_failed:
            failed[1, task.flow].add(task.number)
    return {kind: Record(len(tasks), len(failed[kind])) for kind, tasks in ended.items()}


def stream(
    rng: random.Random, rate: float, tasks: int, mix: Mapping[tuple[str, Work], float]
) -> list[tuple[float, str, Work]]:
    """Arrivals at random times, `rate` a second, of flows and works by their shares."""
    kinds, weights = list(mix), list(mix.values())
    now, arrivals = 0.0, []
    for _ in range(tasks):
        now += rng.expovariate(rate)
        flow, work = rng.choices(kinds, weights)[0]
        arrivals.append((now, flow, work))
    return arrivals


def honest(fleet: Fleet) -> list[SimulatedTask]:
    """The tasks that every sound node completes."""
    return [task for task in fleet.tasks if task.work is good]


def p99_s(tasks: Iterable[SimulatedTask]) -> float:
    """The time from creation to end."""
    took = sorted(task.ended_at - task.created_at for task in tasks)
    return took[int(0.99 * len(took))]


LOAD = 0.5
"""The load as a share of the sound nodes' capacity."""


def fleet_of(size: int, mix: Mix, *, bad: Behaviour | None, tasks: int, seed: int) -> Fleet:
    """A fleet of `size` nodes after that many tasks; with `bad` the first node is like that."""
    nodes = [bad or sound] + [sound] * (size - 1)
    rate = LOAD * max(size - (bad is not None), 1)
    return Fleet(nodes, seed=seed).run(stream(random.Random(seed), rate, tasks, mix))


def _figures(sizes: Iterable[int] = (1, 2, 3, 10, 100), seeds: int = 3) -> Iterator[str]:
    yield "sound fleets: nodes FAULTY of all, honest tasks that failed, their p99, share of time that nodes rest"
    for size in sizes:
        for name, mix in MIXES.items():
            yield f"  {size:3}  {name:28} {_sound(size, mix, seeds)}"
    yield "one bad node among sound ones: when FAULTY (avoided: rests, or is chosen last), its attempts, sound FAULTY"
    for size in sizes:
        for name, bad in BAD.items():
            yield f"  {size:3}  {name:28} {_found(size, bad, seeds)}"


def _sound(size: int, mix: Mix, seeds: int) -> str:
    fleets = [fleet_of(size, mix, bad=None, tasks=3000, seed=seed) for seed in range(seeds)]
    nodes = [(node, fleet.now) for fleet in fleets for node in fleet.nodes.values()]
    faulty = sum(node.faulty_at is not None for node, _ in nodes)
    tasks = [task for fleet in fleets for task in honest(fleet)]
    failed = sum(task.status is not TaskStatus.COMPLETED for task in tasks)
    p99 = f"{p99_s(tasks):5.1f} s" if tasks else "      –"
    rested = sum(node.rested_s / now for node, now in nodes) / len(nodes)
    return f"{faulty}/{len(nodes):<4} {failed}/{len(tasks):<5} {p99}  {rested:.3f}"


def _found(size: int, bad: Behaviour, seeds: int) -> str:
    work = MIXES["honest work"]
    fleets = [fleet_of(size, work, bad=bad, tasks=100 + 40 * size, seed=seed) for seed in range(seeds)]
    first = [fleet.nodes["n0"] for fleet in fleets]
    when = ", ".join(f"{node.faulty_at:.0f} s" if node.faulty_at else "avoided" for node in first)
    others = sum(node.faulty_at is not None for fleet in fleets for node in list(fleet.nodes.values())[1:])
    return f"{when:22} {[node.took for node in first]}  {others}"


if __name__ == "__main__":
    for line in _figures():
        sys.stdout.write(f"{line}\n")
