"""`gpu-orchestrator nodes`: list the GPU nodes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from workers.command import exits, pages
from workers.command.output import say, write_json
from workers.command.running import add_json, with_server

if TYPE_CHECKING:
    from workers.command.server import Server

MOST = 10_000


def configure(parser: ArgumentParser) -> None:
    add_json(parser)


@with_server
def run(server: Server, args: Namespace) -> int:
    """0, or as `exits` says."""
    rows, total, _ = pages.read(server, "/gpus", {}, MOST, "gpuId")
    if args.json:
        write_json(rows)
    elif rows:
        from workers.command import tables

        tables.console().print(tables.nodes(rows))
    if len(rows) < total or not rows:
        say(f"{len(rows)} of {total} nodes" if rows else "no node")
    return exits.DONE
