"""`gpu-orchestrator submit`: create a task, and follow it with `--watch`."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gpu_orchestrator_client.commands import given
from gpu_orchestrator_client.errors import Forbidden
from workers.arguments import duration, expiry, int64
from workers.command import exits, profile
from workers.command.durations import about
from workers.command.idempotency import add_key, once
from workers.command.output import say, write, write_json
from workers.command.profile import Profile
from workers.command.running import add_json, guarded

if TYPE_CHECKING:
    from workers.command.server import Server

APP = "cli"


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("--type", type=int64, required=True, metavar="N", help="the taskType: which nodes can run it")
    parser.add_argument("-f", "--file", metavar="JOB.json", help="its payload, a JSON document; - is standard input")
    parser.add_argument("--watch", action="store_true", help="follow it; the exit status is then the task's")
    parser.add_argument("--app", help=f"default: that of the profile, or {APP}")
    parser.add_argument("--user", metavar="USER_ID", help="default: that of the profile, or the account's name")
    parser.add_argument("--priority", type=int64, metavar="N", help="2 and more: VIP")
    parser.add_argument("--env")
    parser.add_argument("--timeout", type=duration, metavar="10m", help="the time limit of each attempt")
    parser.add_argument("--max-retries", type=int64, metavar="N")
    parser.add_argument("--group", metavar="GROUP_ID")
    parser.add_argument("--expires-in", type=duration, metavar="1h", help="the task ends if it has not started by then")
    parser.add_argument("--deadline", type=expiry, metavar="2h|TIME", help="the task ends by then, running or not")
    parser.add_argument("--max-wait", type=duration, metavar="30s", help="refuse the task if it would wait longer")
    parser.add_argument("--webhook", metavar="URL", help="is sent the end of the task")
    add_key(parser, "task")
    add_json(parser)


def run(args: Namespace) -> int:
    """0: created, or with --watch COMPLETED; otherwise as `exits` says."""
    try:
        payload = payload_of(args.file)
    except (OSError, ValueError, RecursionError) as error:
        say(f"error: {args.file}: {error}")
        return exits.USAGE
    return guarded(lambda: _submit(profile.current(), args, payload))


def payload_of(name: str | None) -> str:
    """The text of a file, which has to be JSON; an empty object without one.

    Raises OSError, ValueError, RecursionError.
    """
    if name is None:
        return "{}"
    if name == "-":
        content = sys.stdin.buffer.read()
    else:
        with open(name, "rb") as stream:
            content = stream.read()
    text = content.decode("utf-8-sig")
    json.loads(text, parse_constant=_refuse)
    return text


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def body_of(args: Namespace, payload: str, chosen: Profile) -> dict[str, Any]:
    """The body of POST /tasks, without what is not given."""
    return given(
        taskType=args.type,
        userId=args.user or chosen.user or _account(),
        app=args.app or chosen.app or APP,
        payload=payload,
        priority=args.priority,
        env=args.env,
        timeout=_ms(args.timeout),
        maxRetries=args.max_retries,
        groupId=args.group,
        expiresIn=_ms(args.expires_in),
        deadline=None if args.deadline is None else round(args.deadline.timestamp() * 1000),
        maxWait=None if args.max_wait is None else round(args.max_wait.total_seconds()),
        webhook=args.webhook,
    )


def _account() -> str:
    from getpass import getuser

    try:
        return getuser()
    except (OSError, KeyError):  # an account without a name, as containers have
        return APP


def _ms(span: timedelta | None) -> int | None:
    return None if span is None else round(span.total_seconds() * 1000)


def _submit(chosen: Profile, args: Namespace, payload: str) -> int:
    from workers.command.server import Server

    server = Server(chosen, say)
    created = _create(server, args, body_of(args, payload, chosen))
    if args.watch:
        from workers.command.following import follow
        from workers.command.views import view_for

        say(created["taskId"])
        return follow(server, created["taskId"], view_for(as_json=args.json))
    if args.json:
        write_json(created)
    else:
        write(created["taskId"])
        say(start_of(created.get("estimatedWaitTime")))
    return exits.DONE


def start_of(wait_s: int | None) -> str:
    """When a task starts, as far as that is known."""
    if wait_s is None:
        return "its start is not known"
    return f"starts in about {about(wait_s)}" if wait_s else "starts now"


def _create(server: Server, args: Namespace, body: dict[str, Any]) -> Any:
    try:
        with once(args, "created", "creates", {"--deadline": body.get("deadline")}) as key:
            return server.post("/tasks", body, key=key, refusals={429} if "maxWait" in body else ())
    except Forbidden:
        say(f"{body['userId']} is the user of this task; another one: --user, or login --user")
        raise
