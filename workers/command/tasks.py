"""`gpu-orchestrator tasks`: list tasks, or show one."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gpu_orchestrator_client.naming import path
from workers.arguments import count
from workers.command import exits, pages
from workers.command.filters import add_filters, filter_of
from workers.command.output import say, write_json
from workers.command.pages import Found
from workers.command.running import add_json, with_server

if TYPE_CHECKING:
    from workers.command.server import Server


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("task_id", metavar="TASK_ID", nargs="?", help="show this one, with payload and result")
    add_filters(parser)
    parser.add_argument("-n", dest="most", type=count, default=20, metavar="N", help="the newest N (%(default)s)")
    add_json(parser)


@with_server
def run(server: Server, args: Namespace) -> int:
    """0, or as `exits` says."""
    return (_one if args.task_id else _list)(server, args)


def _list(server: Server, args: Namespace) -> int:
    found = newest(server, filter_of(args), args.most)
    if args.json:
        write_json(found.rows)
    elif found.rows:
        from workers.command import tables

        tables.console().print(tables.tasks(found.rows))
    if not found.is_exact and args.most > found.total:
        say(f"only the newest {found.total} tasks that match can be listed: --before leads to older ones")
    elif not args.json and (len(found.rows) < found.total or not found.rows):
        say(f"{len(found.rows)} of {found.in_all} tasks" if found.rows else "no task")
    return exits.DONE


def newest(server: Server, chosen: Mapping[str, Any], most: int) -> Found:
    """The newest tasks that fit, and how many there are in all."""
    return pages.read(server, "/tasks", chosen, most, "taskId")


def _one(server: Server, args: Namespace) -> int:
    task = server.get(path("tasks", args.task_id))
    if args.json:
        write_json(task)
        return exits.DONE
    from workers.command import tables

    waiting = server.get(path("tasks", args.task_id, "progress")).get("waiting") if task["status"] == "QUEUED" else None
    tables.console().print(tables.task(task, waiting))
    return exits.DONE
