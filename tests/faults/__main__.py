"""`python -m tests.faults`: kill, pause and cut the parts of a system under load, and check that nothing is broken."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from pathlib import Path

from tests.faults import campaign
from tests.faults.plan import Plan
from workers.stack.logs import Log, console


def main() -> int:
    """0 where everything holds. The last line of standard output is one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="default: a new one, printed")
    parser.add_argument("--seconds", type=float, default=75, help="of load and faults")
    parser.add_argument("--tasks", type=int, default=400, help="created in this time")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two faults, on the average")
    parser.add_argument("--drain", type=float, default=90.0, help="seconds until every task must have ended")
    parser.add_argument("--good-company", action="store_true", help="no bad nodes and no careless user")
    parser.add_argument("--verbose", action="store_true", help="show the output of all parts")
    parser.add_argument("--folder", type=Path, help="keep the data and the logs of all parts there")
    args = parser.parse_args()
    plan = Plan(args.seed, args.seconds, args.tasks, args.every, args.drain, bad_company=not args.good_company)
    sys.stderr.write(f"seed {plan.seed}: {plan.tasks} tasks in {plan.seconds:g} s\n")
    figures = asyncio.run(campaign.run(plan, console() if args.verbose else silent(), args.folder))
    sys.stdout.write(f"{figures.as_table()}\n{figures.as_json()}\n")
    return 0 if figures.sound else 1


def silent() -> Log:
    """The parts complain all the time, as they must; what they say goes to their files."""
    return lambda name, line: None


if __name__ == "__main__":
    sys.exit(main())
