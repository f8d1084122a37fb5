"""`gpu-orchestrator login`: keep the address of the API and a key, for the commands that call it."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from gpu_orchestrator_client import naming
from workers.command import exits, profile
from workers.command.output import say, show
from workers.command.profile import NotSignedIn, Profile
from workers.command.running import add_json, guarded

URL = "http://127.0.0.1:8080"


def configure(parser: ArgumentParser) -> None:
    parser.description = (
        "Keep the address of the API and a key. The key is asked for, or read from standard input; never an option,"
        f" which others could see. {naming.URL} and {naming.KEY} override what is kept."
    )
    parser.add_argument("url", metavar="URL", nargs="?", default=URL, help="default: %(default)s")
    parser.add_argument("--user", metavar="USER_ID", help="the user of the tasks that `submit` creates")
    parser.add_argument("--app", help="the app of the tasks that `submit` creates")
    add_json(parser)


def run(args: Namespace) -> int:
    """0: kept; 2: an address or a key that can't be one; otherwise as `exits` says."""
    try:
        chosen = Profile(naming.url_of(args.url), naming.key_of(_secret()), args.user, args.app)
    except ValueError as error:
        say(f"error: {error}")
        return exits.USAGE
    except EOFError:
        say("error: no key was given")
        return exits.USAGE
    return guarded(lambda: _login(chosen, args))


def _secret() -> str:
    if sys.stdin.isatty():
        from getpass import getpass

        return getpass("API key (not shown): ")
    return sys.stdin.readline()


def _login(chosen: Profile, args: Namespace) -> int:
    from workers.command.server import Server

    if chosen.is_in_clear:
        say(f"warning: {chosen.url} is not encrypted; whoever is on the way can read the key")
    Server(chosen, say).get("/monitoring/health")  # every key may, but a node's, which can't do anything here
    file = profile.path()
    try:
        profile.write(chosen, file)
    except OSError as error:
        raise NotSignedIn(f"{file}: {error.strerror}") from None
    kept = {"url": chosen.url, "profile": str(file)}
    show(kept, f"signed in to {chosen.url}; the key is in {file}", as_json=args.json)
    return exits.DONE
