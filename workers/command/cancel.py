"""`gpu-orchestrator cancel`: end tasks that wait or run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from gpu_orchestrator_client.commands import given
from gpu_orchestrator_client.naming import path
from workers.command import exits
from workers.command.bulk import add_choice, change
from workers.command.output import show

if TYPE_CHECKING:
    from workers.command.server import Server


def configure(parser: ArgumentParser) -> None:
    add_choice(parser, ("QUEUED", "PROCESSING"))
    parser.add_argument("--reason", help="the reason, which the tasks' owners see")


def run(args: Namespace) -> int:
    """0: they are cancelled; otherwise as `exits` says."""
    return change("cancel", _one, given(reason=args.reason), args)


def _one(server: Server, args: Namespace) -> int:
    task_id = args.task_ids[0]
    message = server.post(path("tasks", task_id, "cancel"), given(reason=args.reason))
    show({"taskId": task_id, "message": message}, f"{task_id}: {message}", as_json=args.json)
    return exits.DONE
