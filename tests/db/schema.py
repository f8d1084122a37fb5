"""The whole schema as SQL. `python -m tests.db.schema` rewrites it from what the migrations build."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from infra.db.schema.migrate import WRITTEN, migrate
from infra.db.session import Database
from tests.stack_settings import stack_settings
from workers.stack.stack import Stack

HEAD = "-- What the migrations build. `python -m tests.db.schema` writes it; a test compares it.\n\n"
_NOISE = re.compile(r"--.*|SET .*|SELECT pg_catalog\.set_config.*|\\(un)?restrict .*")


async def dumped(stack: Stack, url: str) -> str:
    """All that defines this database of the stack: tables, defaults, checks, indexes, functions, triggers."""
    parts = urlsplit(url)
    process = await asyncio.create_subprocess_exec(
        Path(stack.part("postgres").spec.argv[0]).with_name("pg_dump"),
        *("--schema-only", "--no-owner", "--no-privileges", f"--username={parts.username}"),
        *(f"--host={parse_qs(parts.query)['host'][0]}", parts.path.removeprefix("/")),
        stdout=asyncio.subprocess.PIPE,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0
    lines = [line for line in output.splitlines() if not _NOISE.fullmatch(line)]
    return HEAD + re.sub(r"\n{2,}", "\n\n", "\n".join(lines)).strip() + "\n"


async def _write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Stack(stack_settings(Path(folder)), with_programs=False) as stack:
            url = stack.services.database_url
            await migrate(Database(url))
            WRITTEN.write_text(await dumped(stack, url), "utf-8")


if __name__ == "__main__":
    asyncio.run(_write())
