"""The reference node agent, `gpu-orchestrator node`: its entry into the command line."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from infra import telemetry
from infra.environment import variables
from workers.node import secrecy
from workers.node.errors import BadOption, Refused, StateDirTaken
from workers.node.node import Node
from workers.node.options import Options, add_arguments, read_options
from workers.node.server import listen

_KNOWN = variables.AGENT | variables.NODE_SETTINGS


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the subcommand."""
    add_arguments(parser, os.environ)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM: 0 after a drain, 1 where the node cannot work or was cut short, 2 on bad options."""
    sys.stderr.writelines(variables.warnings(os.environ, variables.AGENT_PREFIX, _KNOWN))
    try:
        options = read_options(args, os.environ)
        secrecy.hide(options.api_key)
        telemetry.log_to_stderr(options.log_level)
        with telemetry.exported("gpu-orchestrator-node"):
            return asyncio.run(_serve(options))
    except (BadOption, StateDirTaken) as error:
        return _complain(error, 2)
    except (Refused, OSError) as error:
        return _complain(error, 1)


async def _serve(options: Options) -> int:
    node = Node(options, listen(options.host, options.port))
    try:
        return await node.serve()
    finally:
        await node.close()


def _complain(error: Exception, status: int) -> int:
    sys.stderr.write(f"gpu-orchestrator node: error: {error}\n")
    return status
