"""The common parts of all commands that call the API: options, a server, error messages with advice."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from gpu_orchestrator_client.errors import (
    ApiError,
    BadAnswer,
    Forbidden,
    NotFound,
    OrchestratorError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from workers.command import exits, profile
from workers.command.output import say
from workers.command.profile import NotSignedIn

if TYPE_CHECKING:
    from workers.command.server import Server

BROKEN_PIPE = 141
"""The shell's status for it."""

NEXT: dict[type[OrchestratorError], str] = {
    Unauthorized: "the key is unknown, expired or revoked: gpu-orchestrator login",
    Forbidden: "the key may not do this: sign in with one of a fitting role, or ask an administrator",
    NotFound: "gpu-orchestrator tasks and gpu-orchestrator nodes list what there is for your key",
    TooManyRequests: "try again later",
    Unavailable: "nothing is lost: try again later",
    Unreachable: "check the address and the network; gpu-orchestrator login URL changes the address",
    BadAnswer: "check the address: gpu-orchestrator login URL",
}


def add_json(parser: ArgumentParser) -> None:
    """The option that every command has."""
    parser.add_argument("--json", action="store_true", help="print JSON, as the API gives it")


def with_server(work: Callable[[Server, Namespace], int]) -> Callable[[Namespace], int]:
    """Run a command with the server of the environment or the profile. Prints errors, and returns the exit status."""
    return lambda args: guarded(lambda: work(_server(), args))


def _server() -> Server:
    from workers.command.server import Server  # not above: `--help` makes no call

    return Server(profile.current(), say)


def guarded(work: Callable[[], int]) -> int:
    """Run a command, and print its errors."""
    try:
        status = work()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise the interpreter complains at its end
        return BROKEN_PIPE
    except NotSignedIn as error:
        say(f"error: {error}")
    except OSError as error:  # of standard output, as of a disk that is full
        say(f"error: {error.strerror or error}")
    except ValueError as error:  # what no call can carry, as a header of two lines or half a character
        say(f"error: {error}")
        return exits.USAGE
    except OrchestratorError as error:
        say(f"error: {error}")
        if (advice := advice_for(error)) is not None:
            say(advice)
    return exits.REFUSED


def advice_for(error: OrchestratorError) -> str | None:
    """Advice on what to do next, or None."""
    if isinstance(error, ApiError) and error.retry_after_s is not None:
        return f"try again in {error.retry_after_s:g} s"
    return next((text for kind, text in NEXT.items() if isinstance(error, kind)), None)
