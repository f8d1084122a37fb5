"""`gpu-orchestrator keys`: make, list, revoke and rotate API keys, straight in the database."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any, TypeVar

import psycopg

from infra.data_dir.embedded import forget_foreign, postgres_url
from infra.data_dir.layout import DataDir
from infra.db.access import api_keys
from infra.db.access.api_keys import KeyRefused, MadeKey, NewKey, StoredKey
from infra.db.access.audit import Actor
from infra.db.connection import Connection
from infra.db.session import Database, DatabaseSilent
from infra.settings import Settings, load
from workers.arguments import ago, count, duration, expiry, int64
from workflows.domain.key_limits import KeyLimits
from workflows.domain.role import Role

T = TypeVar("T")

LONGEST_NAME, LONGEST_NOTE = 128, 500  # characters; an owner is a userId
COLUMNS = ("keyId", "role", "owner", "state", "createdAt", "expiresAt", "actsForOthers", "grants", "note")
UNKNOWN = {"42P01", "42703"}
"""SQLSTATE of a table or a column that is not there: a schema of another version."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add a subcommand per action; the database is that of the settings."""
    parser.epilog = (
        "The database is that of ORCHESTRATOR_DATABASE_URL, or else the embedded one in ORCHESTRATOR_DATA_DIR, which"
        " has to be running."
    )
    actions = parser.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="make a key; its secret is shown this once")
    _configure_create(create)
    listing = actions.add_parser("list", help="all keys, without their secrets")
    revoke = actions.add_parser("revoke", help="end a key, or all older ones, everywhere within 2 s")
    _configure_revoke(revoke)
    rotate = actions.add_parser("rotate", help="make a key's successor; its secret is shown this once")
    rotate.add_argument("key_id", metavar="KEY_ID")
    rotate.add_argument(
        "--overlap", type=duration, default="24h", help="how long the old one stays valid (%(default)s)"
    )
    for one in (create, listing, revoke, rotate):
        one.add_argument("--json", action="store_true", help="print one JSON value")


def _configure_create(create: argparse.ArgumentParser) -> None:
    create.add_argument("--role", required=True, choices=[str(role) for role in Role])
    create.add_argument("--owner", required=True, type=_name, help="of a user's key: the userId of its tasks")
    create.add_argument("--expires", type=expiry, metavar="30d|TIME", help="valid that long, or until an ISO 8601 time")
    create.add_argument("--acts-for-others", action="store_true", help="a user's key that creates for any userId")
    users = create.add_argument_group("limits of a user's key; without one there is no limit")
    users.add_argument("--max-priority", type=int64, metavar="N", help="the highest of its tasks; 2 and more: VIP")
    users.add_argument("--apps", type=_list_of(_name), metavar="a,b", help="the apps of its tasks")
    nodes = create.add_argument_group("limits of a node's key and its successors, all GPUs together")
    nodes.add_argument("--types", type=_list_of(int64), metavar="2,3", help="the task types that they may serve")
    nodes.add_argument("--max-gpus", type=count, metavar="N", help="how many may be registered at a time")
    nodes.add_argument("--max-slots", type=count, metavar="N", help="the sum of their maxConcurrentTasks")
    nodes.add_argument(
        "--networks", type=_list_of(_network), metavar="CIDR,CIDR", help="the networks where they may be"
    )
    create.add_argument("--note", type=_note, help="a note for people")


def _configure_revoke(revoke: argparse.ArgumentParser) -> None:
    which = revoke.add_mutually_exclusive_group(required=True)
    which.add_argument("key_id", metavar="KEY_ID", nargs="?")
    which.add_argument(
        "--all-before",
        type=ago,
        metavar="2h|TIME",
        help="every key made before that, the bootstrap key too: longer ago, or before an ISO 8601 time",
    )
    revoke.add_argument("--except", dest="spared", action="append", metavar="KEY_ID", help="not this one of them")


def run(args: argparse.Namespace) -> int:
    """0: done; 1: not done, and why. Raises BadSettings and DataDirError."""
    try:
        asyncio.run(ACTIONS[args.action](args))
    except (KeyRefused, NoDatabase, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


class NoDatabase(Exception):
    """The database can't be asked; the text says what to do."""


async def _create(args: argparse.Namespace) -> None:
    limits = KeyLimits(args.max_priority, args.apps, args.types, args.max_gpus, args.max_slots, args.networks)
    key = NewKey(Role(args.role), args.owner, args.expires, args.acts_for_others, args.note, limits)
    _show_secret(await _in_database(lambda c: api_keys.create(c, key, _actor())), args)


async def _list(args: argparse.Namespace) -> None:
    _print(await _in_database(api_keys.list_all), args)


async def _revoke(args: argparse.Namespace) -> None:
    if args.all_before is not None:
        await _revoke_before(args)
        return
    if args.spared:
        raise KeyRefused("--except goes with --all-before")
    changed = await _in_database(lambda c: api_keys.revoke(c, args.key_id, _actor()))
    if args.json:
        sys.stdout.write(json.dumps({"keyId": args.key_id, "state": "revoked"}) + "\n")
    sys.stderr.write(f"{args.key_id} is revoked{'' if changed else ' already'}\n")


async def _revoke_before(args: argparse.Namespace) -> None:
    when, spared = args.all_before, args.spared or ()
    moment, age_s = (None, when.total_seconds()) if isinstance(when, timedelta) else (when, 0.0)
    found = await _in_database(lambda c: api_keys.revoke_before(c, moment, _actor(), age_s=age_s, spared=spared))
    _print(found, args)
    sys.stderr.write(f"{len(found)} keys are revoked\n")
    if any(row.owner == api_keys.BOOTSTRAP for row in found):
        sys.stderr.write("the bootstrap key is one of them: set another ORCHESTRATOR_API_KEY, then migrate\n")


async def _rotate(args: argparse.Namespace) -> None:
    overlap_s = args.overlap.total_seconds()
    made, ends_at = await _in_database(lambda c: api_keys.rotate(c, args.key_id, overlap_s, _actor()))
    _show_secret(made, args, replaces=args.key_id, oldExpiresAt=_iso(ends_at))


ACTIONS = {"create": _create, "list": _list, "revoke": _revoke, "rotate": _rotate}


async def _in_database(work: Callable[[Connection], Awaitable[T]]) -> T:
    url, advice = _database(load())
    database = Database(url, connections=2)
    try:
        return await database.run(work)
    except (psycopg.Error, DatabaseSilent) as error:
        if getattr(error, "sqlstate", None) in UNKNOWN:
            raise NoDatabase("the database has another schema than this program: gpu-orchestrator migrate") from None
        raise NoDatabase(f"{advice}\n({error})") from None
    finally:
        await database.close()


def _database(settings: Settings) -> tuple[str, str]:
    """The database's URL, and the advice for when it does not answer. Raises NoDatabase."""
    if settings.database_url is not None:
        return settings.database_url, "the database of ORCHESTRATOR_DATABASE_URL does not answer"
    forget_foreign(settings)
    folder = settings.data_dir.resolve()
    advice = (
        f"start it with `gpu-orchestrator run`, or set ORCHESTRATOR_DATABASE_URL or ORCHESTRATOR_DATA_DIR ({folder})"
    )
    if not (folder / "postgres").is_dir():
        raise NoDatabase(f"there is no embedded database yet: {advice}")
    return postgres_url(DataDir.create(folder)), f"the embedded database does not run: {advice}"


def _actor() -> Actor:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as containers have
        name = "unknown"
    return Actor(None, f"cli:{name}", None)


def _show_secret(made: MadeKey, args: argparse.Namespace, **more: Any) -> None:
    """Only the secret on standard output, for `KEY=$(…)`; all of it as JSON where that is asked for."""
    key = made.key
    shown = {
        "keyId": made.key_id,
        "role": key.role,
        "owner": key.owner,
        "expiresAt": _iso(key.expires_at),
        "actsForOthers": key.acts_for_others,
        "grants": key.limits.shown(),
        "note": key.note,
        **more,
    }
    if args.json:
        sys.stdout.write(json.dumps({"secret": made.secret, **shown}, ensure_ascii=False) + "\n")
        return
    sys.stdout.write(f"{made.secret}\n")
    words = ", ".join(f"{name} {_cell(value)}" for name, value in shown.items() if value not in (None, False, {}))
    sys.stderr.write(f"{words}; the secret is shown this once\n")


def _print(found: Iterable[StoredKey], args: argparse.Namespace) -> None:
    rows = [_shown(row) for row in found]
    sys.stdout.write(json.dumps(rows, ensure_ascii=False) + "\n" if args.json else _table(rows))


def _shown(row: StoredKey) -> dict[str, Any]:
    return {
        "keyId": row.key_id,
        "role": row.role,
        "owner": row.owner,
        "state": row.state,
        "lineage": row.lineage,
        "actsForOthers": row.acts_for_others,
        "grants": row.grants or {},
        "note": row.note,
        "createdAt": _iso(row.created_at),
        "expiresAt": _iso(row.expires_at),
        "revokedAt": _iso(row.revoked_at),
    }


def _table(rows: Iterable[dict[str, Any]]) -> str:
    lines: list[Sequence[str]] = [COLUMNS]
    lines += [["-" if row[name] in (None, False, {}) else _cell(row[name]) for name in COLUMNS] for row in rows]
    widths = [max(len(line[number]) for line in lines) for number in range(len(COLUMNS))]
    return "".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={_cell(one)}" for name, one in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _name(text: str) -> str:
    if not 1 <= len(text) <= LONGEST_NAME or not text.isprintable() or not text.strip():
        raise argparse.ArgumentTypeError(f"must be 1 to {LONGEST_NAME} printable characters")
    return text


def _list_of(parse: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """The type of `a,b`, each once; an empty one is a mistake, not a list of nothing."""
    return lambda text: tuple(dict.fromkeys(parse(part.strip()) for part in text.split(",")))


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _note(text: str) -> str:
    if len(text) > LONGEST_NOTE or not text.isprintable():
        raise argparse.ArgumentTypeError(f"must be at most {LONGEST_NOTE} printable characters")
    return text
