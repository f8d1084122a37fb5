"""`gpu-orchestrator retry`: create new tasks like those that failed or timed out."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from gpu_orchestrator_client.naming import path
from workers.command import exits
from workers.command.bulk import add_choice, change
from workers.command.idempotency import once
from workers.command.output import say, write, write_json

if TYPE_CHECKING:
    from workers.command.server import Server


def configure(parser: ArgumentParser) -> None:
    chosen = add_choice(parser, ("FAILED", "TIMEOUT"))
    chosen.add_argument("--failed", action="store_const", const="FAILED", dest="status", help="--status FAILED")


def run(args: Namespace) -> int:
    """0: they are created; otherwise as `exits` says."""
    return change("retry", _one, {}, args)


def _one(server: Server, args: Namespace) -> int:
    with once(args, "created", "creates", {}) as key:
        created = server.post(path("tasks", args.task_ids[0], "retry"), key=key)
    if args.json:
        write_json(created)
    else:
        write(created["taskId"])
        say(f"a new task like {args.task_ids[0]}: gpu-orchestrator watch {created['taskId']}")
    return exits.DONE
