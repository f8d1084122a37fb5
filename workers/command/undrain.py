"""`gpu-orchestrator undrain`: let a node have tasks again."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from workers.command import exits
from workers.command.output import say, write_json
from workers.command.running import add_json, with_server
from workers.command.server import Server, segment


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("gpu_id", metavar="GPU_ID")
    add_json(parser)


def run(args: Namespace) -> int:
    """0, or as `exits` says."""
    return with_server(_undrain, args)


def _undrain(server: Server, args: Namespace) -> int:
    message = server.post(f"/gpus/{segment(args.gpu_id)}/undrain")
    if args.json:
        write_json({"gpuId": args.gpu_id, "message": message})
    else:
        say(f"{args.gpu_id}: {message}")
    return exits.DONE
