"""A Python client generated from the OpenAPI document: nothing is left out, and its types fit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.whole_api import document

CONFIG = "post_hooks: []\npackage_name_override: generated\n"
USE = """\
from generated import AuthenticatedClient
from generated.api.任务管理 import create_task, get_task
from generated.models import CreateTask, TaskDO
from generated.types import Unset

client = AuthenticatedClient(base_url="http://localhost:8080", token="your key")
created = create_task.sync(client=client, body=CreateTask(task_type=2, user_id="you", app="script", payload="{}"))
"""


def run(folder: Path, *words: str) -> None:
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_a_generated_python_client_has_everything_and_types_that_fit(tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(document()), encoding="utf-8")
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "use.py").write_text(USE, encoding="utf-8")
    how = ("--config", "config.yaml", "--meta", "none", "--output-path", "generated", "--fail-on-warning")
    run(tmp_path, "-m", "openapi_python_client", "generate", "--path", "openapi.json", *how)
    run(tmp_path, "-m", "mypy", "--strict", "--cache-dir", "/dev/null", "generated", "use.py")
