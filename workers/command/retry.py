"""`gpu-orchestrator retry`: create new tasks like those that failed or timed out."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from gpu_orchestrator_client.naming import path
from workers.command import exits
from workers.command.many import add_choice, carry_out, choice_of
from workers.command.once import once
from workers.command.output import say, write, write_json
from workers.command.running import with_server

if TYPE_CHECKING:
    from workers.command.server import Server


def configure(parser: ArgumentParser) -> None:
    chosen = add_choice(parser, ("FAILED", "TIMEOUT"))
    chosen.add_argument("--failed", action="store_const", const="FAILED", dest="status", help="--status FAILED")


def run(args: Namespace) -> int:
    """0: they are created; else as `exits` says."""
    choice = choice_of(args)
    if choice is None:
        return exits.USAGE
    if len(args.task_ids) == 1 and not args.dry_run:
        return with_server(_one, args)
    return with_server(lambda server, args: carry_out(server, "retry", choice, args), args)


def _one(server: Server, args: Namespace) -> int:
    with once(args, "created", "creates", {}) as key:
        created = server.post(path("tasks", args.task_ids[0], "retry"), key=key)
    if args.json:
        write_json(created)
    else:
        write(created["taskId"])
        say(f"a new task like {args.task_ids[0]}: gpu-orchestrator watch {created['taskId']}")
    return exits.DONE
