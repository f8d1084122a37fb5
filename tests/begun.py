"""A data directory that has run once, for the stacks of a test run to begin with.

initdb, Temporal's tables and our migrations cost each new directory several seconds of CPU; a copy costs a tenth.
"""

from __future__ import annotations

import asyncio
import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

from infra.db.schema.migrate import migrate
from infra.db.session import Database
from tests.stack_settings import stack_settings
from workers.stack import postgres
from workers.stack.stack import Stack

ROOT = Path(__file__).parents[1]
home: Path | None = None
"""The folder of the run that all its processes share; None where a process tests alone, and its stacks begin empty."""


def begun(data_dir: Path) -> Path:
    """The same directory, with a copy of the databases, which the first caller of the run makes."""
    if home is not None:
        made = home / "made"
        with (home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                subprocess.run((sys.executable, "-m", "tests.begun", str(home / "draft")), cwd=ROOT, check=True)
                (home / "draft").rename(made)
        shutil.copytree(made / "postgres", data_dir / "postgres")  # makes the directory, too
        for file in made.glob("temporal.db*"):
            shutil.copy2(file, data_dir)
    return data_dir


async def _make(folder: Path) -> None:
    async with Stack(stack_settings(folder), with_programs=False) as stack:
        await migrate(Database(stack.services.database_url))


if __name__ == "__main__":
    postgres.OPTIONS["fsync"] = "off"
    asyncio.run(_make(Path(sys.argv[1])))
