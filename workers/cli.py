"""The command line `gpu-orchestrator`: the processes of the system, and the commands that call it."""

from __future__ import annotations

import io
import sys
from types import ModuleType

# subcommand -> (module with `configure(parser)`, if it has options, and `run(args) -> exit status`, one-line help)
COMMANDS = {
    "run": ("workers.stack.run", "start the embedded stack and serve until Ctrl-C"),
    "demo": ("workers.demo.run", "run a batch of real work on the embedded stack, killing one node on the way"),
    "api": ("workers.api", "one API process"),
    "worker": ("workers.temporal_worker", "one Temporal worker process"),
    "migrate": ("workers.migrate", "bring the database to the current schema"),
    "keys": ("workers.keys", "make, list, revoke and rotate API keys"),
    "verify": ("workers.verify.run", "check that everything that must hold does hold"),
    "node": ("workers.node.agent", "the reference GPU node agent"),
    "login": ("workers.command.login", "keep the address of the API and a key, for the commands below"),
    "submit": ("workers.command.submit", "create a task, and follow it with --watch"),
    "watch": ("workers.command.watch", "follow a task to its end"),
    "tasks": ("workers.command.tasks", "list tasks, or show one"),
    "cancel": ("workers.command.cancel", "end tasks that wait or run"),
    "retry": ("workers.command.retry", "create new tasks like those that failed or timed out"),
    "nodes": ("workers.command.nodes", "list the GPU nodes"),
    "drain": ("workers.command.drain", "give a node no new task"),
    "undrain": ("workers.command.undrain", "let a node have tasks again"),
    "top": ("workers.command.top", "the nodes, the queue and what happens, live"),
}

INTERRUPTED = 130  # the shell's word for an end by SIGINT


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand, importing only its module. Returns its exit status, or 130 after a Ctrl-C.

    If the command can't start, the exit status is that of its error: 2 for a setting that can't work.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path that a stream can't encode ends nothing
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(arguments: list[str]) -> int:
    import argparse  # not above: a Ctrl-C must find us in `main`

    parser = argparse.ArgumentParser(prog="gpu-orchestrator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    module = None
    for name, (path, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name in arguments[:1]:
            module = _import_quickly(path)
            if hasattr(module, "configure"):
                module.configure(command)
    args = parser.parse_args(arguments)
    assert module is not None  # argparse has refused an unknown name
    from infra.environment.bad_settings import CannotStart

    try:
        return int(module.run(args) or 0)
    except CannotStart as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_status


def _import_quickly(path: str) -> ModuleType:
    """Import a module without looking for garbage, which takes a quarter of the time: nearly all of it stays."""
    import gc

    gc.disable()
    try:
        return _import(path)
    finally:
        gc.freeze()
        gc.enable()


def _import(path: str) -> ModuleType:
    """Import a module, ending at once on a Ctrl-C: its KeyboardInterrupt might be swallowed by what is imported."""
    import os
    import signal
    from importlib import import_module

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, for one
        return import_module(path)
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        return import_module(path)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    sys.exit(main())
