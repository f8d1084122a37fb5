"""Cancelling and retrying: one task, or many by a filter, counted first and asked about."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace, _ArgumentGroup
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from workers.command import exits
from workers.command.filters import add_filters, filter_of
from workers.command.idempotency import add_key, once
from workers.command.output import asked, can_ask, say, show, write_json
from workers.command.running import add_json, with_server
from workers.command.tasks import newest

if TYPE_CHECKING:
    from workers.command.server import Server

PAUSES_S = (0.2, 0.3, 0.5, 1.0)
"""Seconds between reads of an operation's state; the last value repeats."""


def add_choice(parser: ArgumentParser, statuses: tuple[str, ...]) -> _ArgumentGroup:
    """Add options for the tasks that a bulk operation is about; the group of the filters."""
    parser.add_argument("task_ids", metavar="TASK_ID", nargs="*")
    chosen = add_filters(parser, statuses)
    parser.add_argument("--all", action="store_true", help="all tasks that can be")
    parser.add_argument("--dry-run", action="store_true", help="only count them")
    parser.add_argument("-y", "--yes", action="store_true", help="don't ask")
    add_key(parser, "operation")
    add_json(parser)
    return chosen


def choice_of(args: Namespace) -> dict[str, Any] | None:
    """`ids` or `filter` for the API. None, with an error message, if the options name neither or both."""
    chosen = filter_of(args)
    if len([True for one in (args.task_ids, chosen, args.all) if one]) != 1:
        say("error: name tasks, or choose them by options, or all with --all")
        return None
    if args.task_ids:
        return {"ids": args.task_ids}
    return {"filter": chosen or {"all": True}}


def change(kind: str, one: Callable[[Server, Namespace], int], more: dict[str, str], args: Namespace) -> int:
    """Cancel or retry one task with `one`, or many with `more` in the request. Returns the exit status."""
    choice = choice_of(args)
    if choice is None:
        return exits.USAGE
    if len(args.task_ids) == 1 and not args.dry_run:
        return with_server(one)(args)
    return with_server(lambda server, args: carry_out(server, kind, choice | more, args))(args)


def carry_out(server: Server, kind: str, choice: Mapping[str, Any], args: Namespace) -> int:
    """Count, ask, begin, and wait. `kind` is `cancel` or `retry`. Returns the exit status."""
    asks = "filter" in choice and not args.yes and can_ask()
    if args.dry_run or asks:
        matched = server.post(f"/tasks/{kind}", {**choice, "dryRun": True})["matched"]
        among = "" if args.json and args.dry_run else _cancelled_among(server, kind, choice)
        if args.dry_run:
            show({"matched": matched}, f"{_tasks(matched)} would be {DONE_TO[kind]}{among}", as_json=args.json)
            return exits.DONE
        is_nothing = not matched and args.idempotency_key is None  # with its key, it may be done already
        if is_nothing or not asked(f"{kind.capitalize()} {_tasks(matched)}{among}?"):
            return _left({"matched": matched}, "nothing is changed", args, exits.DONE)
    begun = _begin(server, kind, choice, args)
    try:
        ended = _until_done(server, begun["operationId"])
    except KeyboardInterrupt:
        text = f"\nit goes on in the background: {begun['operationId']}, {_tasks(begun['matched'])}"
        return _left(begun, text, args, exits.LEFT)
    show(ended, summary(kind, ended), as_json=args.json)
    return exits.FAILED if ended["failed"] else exits.DONE


def _begin(server: Server, kind: str, choice: Mapping[str, Any], args: Namespace) -> Any:
    chosen = choice.get("filter", {})
    moments = {"--since": chosen.get("createdAfter"), "--before": chosen.get("createdBefore")}
    with once(args, "running", "begins", moments) as key:
        return server.post(f"/tasks/{kind}", choice, key=key)


def _cancelled_among(server: Server, kind: str, choice: Mapping[str, Any]) -> str:
    """A note on how many of the tasks were cancelled, which are FAILED too: a retry rarely means those."""
    chosen = choice.get("filter", {})
    if kind != "retry" or "endReason" in chosen or chosen.get("status") == "TIMEOUT" or not chosen:
        return ""
    fitting = {name: value for name, value in chosen.items() if name != "all"} | {"endReason": "CANCELLED"}
    found = newest(server, fitting, 1)
    return f", {found.in_all} of which were cancelled (--end-reason FAILED leaves them out)" if found.total else ""


DONE_TO = {"cancel": "cancelled", "retry": "retried"}


def _tasks(number: int) -> str:
    return f"{number} task" if number == 1 else f"{number} tasks"


def summary(kind: str, operation: Mapping[str, Any]) -> str:
    """The result of an operation in a sentence."""
    text = f"{operation['done']} of {_tasks(operation['matched'])} {DONE_TO[kind]}"
    return f"{text}, {operation['failed']} could not be" if operation["failed"] else text


def _until_done(server: Server, operation_id: str) -> Any:
    looks = 0
    while (found := server.get(f"/operations/{operation_id}"))["state"] != "DONE":
        time.sleep(PAUSES_S[min(looks, len(PAUSES_S) - 1)])
        looks += 1
    return found


def _left(value: Any, text: str, args: Namespace, status: int) -> int:
    """Print that nothing changes, or what goes on, with --json as JSON too. Returns the exit status."""
    say(text)
    if args.json:
        write_json(value)
    return status
