"""The command line `gpu-orchestrator`: one program, one subcommand per process of the system."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

# subcommand -> (module with `configure(parser)` and `run(args) -> exit status`, one-line help)
COMMANDS = {
    "run": ("workers.stack.run", "start the embedded stack and serve until Ctrl-C"),
    "demo": ("workers.demo.run", "run a batch of real work on the embedded stack, killing one node on the way"),
    "api": ("workers.api_server", "one API process"),
    "worker": ("workers.orchestrator", "one Temporal worker process"),
    "migrate": ("workers.migrate", "bring the database to the current schema"),
    "node": ("workers.node.agent", "the reference GPU node agent"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; only the module of the chosen one is imported."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="gpu-orchestrator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    module = None
    for name, (path, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name in arguments[:1]:
            module = import_module(path)
            module.configure(command)
    args = parser.parse_args(arguments)
    assert module is not None  # argparse has refused an unknown name
    return int(module.run(args) or 0)


if __name__ == "__main__":
    sys.exit(main())
