"""`gpu-orchestrator nodes`: list the GPU nodes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from workers.command import exits
from workers.command.output import say, write_json
from workers.command.running import add_json, with_server
from workers.command.server import Server


def configure(parser: ArgumentParser) -> None:
    add_json(parser)


def run(args: Namespace) -> int:
    """0, or as `exits` says."""
    return with_server(_list, args)


def _list(server: Server, args: Namespace) -> int:
    rows = server.get("/gpus")
    if args.json:
        write_json(rows)
    elif rows:
        from workers.command import tables

        tables.console().print(tables.nodes(rows))
    else:
        say("no node")
    return exits.DONE
