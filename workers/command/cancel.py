"""`gpu-orchestrator cancel`: end tasks that wait or run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from gpu_orchestrator_client.naming import path
from workers.command import exits
from workers.command.many import add_choice, carry_out, choice_of
from workers.command.output import say, write_json
from workers.command.running import with_server

if TYPE_CHECKING:
    from workers.command.server import Server


def configure(parser: ArgumentParser) -> None:
    add_choice(parser, ("QUEUED", "PROCESSING"))
    parser.add_argument("--reason", help="why; the tasks' owners see it")


def run(args: Namespace) -> int:
    """0: they are cancelled; else as `exits` says."""
    choice = choice_of(args)
    if choice is None:
        return exits.USAGE
    if args.reason is not None:
        choice["reason"] = args.reason
    if len(args.task_ids) == 1 and not args.dry_run:
        return with_server(_one, args)
    return with_server(lambda server, args: carry_out(server, "cancel", choice, args), args)


def _one(server: Server, args: Namespace) -> int:
    task_id = args.task_ids[0]
    message = server.post(path("tasks", task_id, "cancel"), {} if args.reason is None else {"reason": args.reason})
    if args.json:
        write_json({"taskId": task_id, "message": message})
    else:
        say(f"{task_id}: {message}")
    return exits.DONE
