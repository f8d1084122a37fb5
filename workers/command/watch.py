"""`gpu-orchestrator watch`: follow a task to its end."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from workers.command.running import add_json, with_server

if TYPE_CHECKING:
    from workers.command.server import Server


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("task_id", metavar="TASK_ID")
    add_json(parser)


@with_server
def run(server: Server, args: Namespace) -> int:
    """The task's exit status, as `exits` says."""
    from workers.command.following import follow
    from workers.command.views import view_for

    return follow(server, args.task_id, view_for(as_json=args.json))
