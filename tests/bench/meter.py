"""The resources that the processes of a stack use: CPU, memory, transactions."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil
import psycopg

PRODUCT = ("api", "worker", "temporal", "postgres", "redis")
OURSELVES = "bench"  # the load and the nodes


@dataclass(frozen=True)
class Usage:
    """CPU seconds by process up to a moment."""

    cpu: Mapping[str, float]
    at: float

    def since(self, earlier: Usage) -> Usage:
        """The use between two moments; `at` is then the time between them."""
        names = self.cpu.keys() & earlier.cpu.keys()
        return Usage({name: self.cpu[name] - earlier.cpu[name] for name in names}, self.at - earlier.at)

    def plus(self, other: Usage) -> Usage:
        """The sum of two windows."""
        names = self.cpu.keys() & other.cpu.keys()
        return Usage({name: self.cpu[name] + other.cpu[name] for name in names}, self.at + other.at)

    @property
    def product(self) -> float:
        """CPU seconds of all processes of the product."""
        return sum(self.cpu.get(name, 0.0) for name in PRODUCT)


class Meter:
    """Reads the processes of a stack by their names."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._processes[OURSELVES] = psutil.Process(os.getpid())

    def watch(self, name: str, pid: int) -> None:
        """Add one process."""
        self._processes[name] = psutil.Process(pid)

    def usage(self) -> Usage:
        """CPU seconds of each process since its start, with its living children and those it has waited for."""
        return Usage({name: self._cpu(name) for name in self._processes}, time.perf_counter())

    def rss_mib(self, name: str) -> float:
        """Resident memory of one process."""
        return float(self._processes[name].memory_info().rss) / 2**20

    def _cpu(self, name: str) -> float:
        process = self._processes[name]
        times = process.cpu_times()
        total = float(times.user + times.system)
        if name == OURSELVES:
            return total  # its children are the stack
        total += float(times.children_user + times.children_system)
        for child in process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                own = child.cpu_times()
                total += float(own.user + own.system + own.children_user + own.children_system)
        return total


async def commits(connection: psycopg.AsyncConnection[tuple[object, ...]], database: str) -> int:
    """The transactions committed in a database until now. A backend reports its own at most 10 s later."""
    found = await connection.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = %s", (database,))
    row = await found.fetchone()
    assert row is not None
    return int(str(row[0]))
