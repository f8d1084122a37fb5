"""`gpu-orchestrator top`: the nodes, the queue and what happens, live. It asks the API at most once a second."""

from __future__ import annotations

import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from gpu_orchestrator_client.errors import ApiError, OrchestratorError, TooManyRequests, Unavailable, Unreachable
from workers.command import exits, profile
from workers.command.course import Update
from workers.command.durations import now_ms
from workers.command.output import say, write_json
from workers.command.profile import Profile
from workers.command.running import add_json, guarded

if TYPE_CHECKING:
    from workers.command.fleet import Fleet
    from workers.command.server import Server

EVERY_S = 1.0
"""Seconds between two calls."""
LONGEST_S = 60.0
"""The longest pause that the API may ask for."""
READ_S = 5.0
"""Seconds after which a call is given up."""
QUIET_S = 10.0
"""Seconds until all is read again though nothing has happened."""
MOST_NODES = 100


def configure(parser: ArgumentParser) -> None:
    parser.epilog = "Ctrl-C ends it. Where standard output is no terminal it shows the moment, once."
    add_json(parser)


def run(args: Namespace) -> int:
    """0, or as `exits` says."""
    return guarded(lambda: _top(profile.current(), args))


def _top(chosen: Profile, args: Namespace) -> int:
    from workers.command.fleet import Fleet, shown
    from workers.command.server import Server

    fleet = Fleet(chosen.url)
    if sys.stdout.isatty() and not args.json:
        return _live(chosen, fleet)
    server = Server(chosen, say)
    for read in READS:
        read(server, fleet)
    if args.json:
        write_json({"health": fleet.health, "metrics": fleet.metrics, "nodes": fleet.nodes})
        return exits.DONE
    from workers.command import tables

    tables.console().print(shown(fleet, height=1000))
    return exits.DONE


def _live(chosen: Profile, fleet: Fleet) -> int:
    from rich.live import Live

    from workers.command import tables
    from workers.command.fleet import shown
    from workers.command.server import Server

    console = tables.console()
    changed = threading.Event()
    server = Server(chosen, lambda _: None, once_within_s=READ_S)  # it is called again here
    threading.Thread(target=_follow, args=(chosen, fleet, changed), daemon=True).start()
    try:
        with Live(
            console=console, screen=True, auto_refresh=False, get_renderable=lambda: shown(fleet, console.height)
        ) as live:
            live.refresh()
            while True:
                changed.clear()
                for read in READS:
                    pause_s = _try(read, server, fleet)
                    live.refresh()
                    time.sleep(pause_s)
                changed.wait(0 if fleet.note else QUIET_S)
    except KeyboardInterrupt:
        return exits.DONE


def _try(read: Callable[[Server, Fleet], None], server: Server, fleet: Fleet) -> float:
    """Read a part, or say why it is old. Seconds until the next call. Raises what another try can't change."""
    try:
        read(server, fleet)
    except (Unreachable, Unavailable, TooManyRequests) as error:
        asked_s = (error.retry_after_s or 0) if isinstance(error, ApiError) else 0
        pause_s = min(max(EVERY_S, asked_s), LONGEST_S)
        fleet.notes[read] = str(error) + (f"; trying again in {pause_s:.0f} s" if pause_s > EVERY_S else "")
        return pause_s
    fleet.notes.pop(read, None)
    return EVERY_S


def _follow(chosen: Profile, fleet: Fleet, changed: threading.Event) -> None:
    """Follow the events while the program runs. Without the stream, everything is read every ten seconds."""
    from gpu_orchestrator_client.streams import Stream
    from workers.command.server import Server

    try:
        for update in Server(chosen, lambda _: None).follow(Stream("/stream", Update, {"after": "now"})):
            fleet.events.append(update)
            changed.set()
    except OrchestratorError as error:
        fleet.events.append(Update("no events", {"time": now_ms(), "data": {"reason": str(error)}}))


def _read_metrics(server: Server, fleet: Fleet) -> None:
    fleet.metrics = server.get("/monitoring/metrics")


def _read_health(server: Server, fleet: Fleet) -> None:
    fleet.health = server.get("/monitoring/health")


def _read_nodes(server: Server, fleet: Fleet) -> None:
    nodes, headers = server.read("/gpus", {"page": 1, "size": MOST_NODES})
    fleet.nodes, fleet.total_nodes = nodes, int(headers.get("x-total-count", len(nodes)))


READS: tuple[Callable[[Server, Fleet], None], ...] = (_read_metrics, _read_nodes, _read_health)
