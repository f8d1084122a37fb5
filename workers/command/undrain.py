"""`gpu-orchestrator undrain`: let a node have tasks again."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from gpu_orchestrator_client.naming import path
from workers.command import exits
from workers.command.output import show
from workers.command.running import add_json, with_server

if TYPE_CHECKING:
    from workers.command.server import Server


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("gpu_id", metavar="GPU_ID")
    add_json(parser)


@with_server
def run(server: Server, args: Namespace) -> int:
    """0, or as `exits` says."""
    message = server.post(path("gpus", args.gpu_id, "undrain"))
    show({"gpuId": args.gpu_id, "message": message}, f"{args.gpu_id}: {message}", as_json=args.json)
    return exits.DONE
