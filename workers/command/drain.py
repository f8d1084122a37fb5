"""`gpu-orchestrator drain`: give a node no new task."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from gpu_orchestrator_client.commands import given
from gpu_orchestrator_client.naming import path
from workers.arguments import expiry
from workers.command import exits
from workers.command.output import say, show
from workers.command.running import add_json, with_server

if TYPE_CHECKING:
    from workers.command.server import Server

PAUSE_S = 2.0


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("gpu_id", metavar="GPU_ID")
    parser.add_argument("--reason", required=True, help="the reason, which others see")
    parser.add_argument("--deadline", type=expiry, metavar="1h|TIME", help="what still runs then is handed back")
    parser.add_argument("--wait", action="store_true", help="wait until nothing runs on it any more")
    add_json(parser)


@with_server
def run(server: Server, args: Namespace) -> int:
    """0, or as `exits` says."""
    deadline = None if args.deadline is None else round(args.deadline.timestamp() * 1000)
    message = server.post(path("gpus", args.gpu_id, "drain"), given(reason=args.reason, deadline=deadline))
    status = exits.DONE
    if args.wait:
        try:
            if not _is_empty(server, args.gpu_id):
                status, message = exits.FAILED, "not draining any more"
        except KeyboardInterrupt:
            status, message = exits.LEFT, f"goes on draining; gpu-orchestrator undrain {args.gpu_id} ends that"
    show({"gpuId": args.gpu_id, "message": message}, f"{args.gpu_id}: {message}", as_json=args.json)
    return status


def _is_empty(server: Server, gpu_id: str) -> bool:
    """Wait until nothing runs on a node. False if it is undrained first."""
    left = None
    while (node := server.get(path("gpus", gpu_id)))["draining"]:
        if (remaining := node["drain"]["remaining"]) == 0:
            return True
        if remaining != left:
            say(f"{gpu_id}: {remaining} left")
        left = remaining
        time.sleep(PAUSE_S)
    return False
