from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pytest

from gpu_orchestrator_client import naming
from tests.unit.command.samples import Serve
from tests.unit.fake_api import FakeApi, serving
from workers.command import bulk, drain, output


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Serve]:
    """Serves answers to the commands of this process."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv(naming.KEY, "secret")
    monkeypatch.setattr(bulk, "PAUSES_S", (0.0,))
    monkeypatch.setattr(drain, "PAUSE_S", 0.0)
    monkeypatch.setattr(output, "_keyboard", lambda: nullcontext(None))  # nobody is asked
    monkeypatch.setattr(output, "_screen", lambda: nullcontext(sys.stderr))
    with ExitStack() as opened:

        def serve(answers: dict[str, list[Any]]) -> FakeApi:
            api = opened.enter_context(serving(FakeApi({name: list(them) for name, them in answers.items()})))
            monkeypatch.setenv(naming.URL, api.url)
            return api

        yield serve
