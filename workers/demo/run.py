"""`gpu-orchestrator demo`: a stack of its own, real work on three nodes, one of them killed on the way."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from rich.console import Console
from rich.markup import escape

from gpu_orchestrator_client import AsyncClient, OrchestratorError
from infra.data_dir.errors import DataDirError
from infra.data_dir.usable import explained, require_ours, shown
from infra.json.strict_json import UNSTORABLE
from infra.settings import Settings
from workers.demo.batch import Job, make_batch
from workers.demo.board import Board
from workers.demo.errors import DemoFailed
from workers.demo.picture import compose
from workers.demo.report import Outcome, print_table, print_verdict, write_results
from workers.demo.show import Show
from workers.stack.errors import StackError
from workers.stack.ports import free_port
from workers.stack.programs import LocalNodes
from workers.stack.run import Signals
from workers.stack.stack import Stack
from workers.waiting import unless

NODES = ("gpu_001", "gpu_002", "gpu_003")
HEARTBEAT_TIMEOUT = 12.0  # s; short, so that a killed node is missed soon
TASK_TIMEOUT = 60_000  # ms per attempt
RESULTS = ("picture.png", "results.json")
INTERRUPTED = 130


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the demo. Its stack is its own, apart from any other."""
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="pictures to work on; default: made up")
    parser.add_argument("--out", type=Path, default=Path("demo-out"), metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--keep", action="store_true", help="keep the stack's data and logs")


def run(args: argparse.Namespace) -> int:
    """Run the demo. Returns 0 if every task came out right and the killed node's went on elsewhere; 1, with the reason,
    if not."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120)
    out: Path = args.out.resolve()
    data_dir = out / f"stack-{os.getpid()}"
    try:
        with explained(out, "--out"):
            work = _fresh_work_folder(out)
        jobs = make_batch(work, args.images, lambda text: _say(console, text))
        status = asyncio.run(_demo(console, _settings(data_dir), jobs, out, work))
    except (DemoFailed, OrchestratorError, StackError, DataDirError, OSError) as error:
        console.print("[bold red]failed:[/]", escape(str(error)), highlight=False, soft_wrap=True)
        status = 1
    if data_dir.is_dir() and (status == 1 or args.keep):
        _say(console, f"data and logs of the stack: {shown(data_dir)}")
    else:
        shutil.rmtree(data_dir, ignore_errors=True)
    return status


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def _fresh_work_folder(out: Path) -> Path:
    """The folder of the tasks' files. Those of an earlier demo are removed, so that no old file can pass for a new
    one."""
    if UNSTORABLE.search(str(out)):
        raise DemoFailed(f"tasks name their files in UTF-8, which {shown(out)} is not: choose another --out")
    require_ours(out, "--out", ("work", *RESULTS))
    folder = out / "work"
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for name in RESULTS:
        (out / name).unlink(missing_ok=True)
    return folder


class _Chosen(Settings):
    """Settings only from arguments, without the environment."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **others: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _settings(data_dir: Path) -> Settings:
    """Settings with everything embedded, on free ports."""
    port = free_port()
    return _Chosen(
        port=port,
        data_dir=data_dir,
        temporal_port=free_port(),
        temporal_ui_port=free_port(),
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        task_timeout=TASK_TIMEOUT,
    )


async def _demo(console: Console, settings: Settings, jobs: Sequence[Job], out: Path, work: Path) -> int:
    nodes = LocalNodes(len(NODES), work)
    stack = Stack(settings, nodes=nodes, log=lambda name, line: None)  # the log files have it all
    signals = Signals()
    outcomes: list[Outcome] = []

    async def whole() -> None:
        console.print("starting Postgres, Redis, Temporal, the orchestrator and three nodes …")
        await stack.start()
        console.print(f"API {stack.api_url}, Temporal Web UI {stack.services.temporal_ui_url}", soft_wrap=True)
        outcomes.append(await _perform(console, stack, jobs))

    try:
        if not await unless(signals.asked, whole()):
            return INTERRUPTED
    finally:
        signals.on_second(stack.kill)
        await stack.stop()
    return await asyncio.to_thread(_conclude, console, outcomes[0], jobs, out)


async def _perform(console: Console, stack: Stack, jobs: Sequence[Job]) -> Outcome:
    key = stack.api_key.secret.get_secret_value()
    async with AsyncClient(stack.api_url, key, app="demo", user_id="demo_user") as api:
        with Board(console, NODES) as board:
            return await Show(stack, api, board, NODES).perform(jobs)


def _conclude(console: Console, outcome: Outcome, jobs: Sequence[Job], out: Path) -> int:
    picture = out / "picture.png"
    compose(jobs).save(picture)
    write_results(outcome, out / "results.json")
    print_table(console, outcome)
    print_verdict(console, outcome, picture)
    return 1 if outcome.failure else 0
