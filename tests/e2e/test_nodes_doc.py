"""The programs in docs/nodes.md run as they are."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Api, eventually

DOC = Path(__file__).parents[2] / "docs" / "nodes.md"


def program(name: str, folder: Path) -> Path:
    """The program of the document that begins with its name, as a file."""
    blocks = re.findall(r"```python\n(# (\S+)\n.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    file = folder / name
    file.write_text({title: text for text, title in blocks}[name], encoding="utf-8")
    return file


@asynccontextmanager
async def running(*argv: str, folder: Path, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *argv), cwd=folder, stdout=log, stderr=log, env={**os.environ, "no_proxy": "*", **env}
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_the_example_node_works(api: Api, tmp_path: Path) -> None:
    file = program("node.py", tmp_path)
    settings = {"API": api.stack.api_url, "KEY": api.key, "GPU": "doc_node", "TYPE": "140"}
    async with running(str(file), folder=tmp_path, **settings):
        done = await api.create(140, '{"prompt": "a cat"}')
        failed = await api.create(140, "{}", maxRetries=0)
        assert (await api.until(done, "COMPLETED", "FAILED"))["status"] == "COMPLETED"
        assert (await api.get(f"/tasks/{done}/result"))["result"] == {"text": "A CAT", "gpuId": "doc_node"}
        assert (await api.until(failed, "FAILED"))["errorMessage"] == "KeyError('prompt')"
        await check_answers((await api.get("/gpus/doc_node"))["port"], done)
    await api.ask("DELETE", "/gpus/doc_node")


async def check_answers(port: int, task_id: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        body = {"input": {}, "context": {"taskId": task_id}}
        assert (await http.put(f"/predictions/{task_id}-1", json=body)).status_code == 401
        assert (await http.get(f"/predictions/{task_id}-1")).json()["status"] == "succeeded"
        assert (await http.get("/predictions/never-1")).status_code == 404
        assert (await http.get("/health-check")).json()["status"] == "READY"


class Cog(BaseHTTPRequestHandler):
    """The answers of a Cog container; a prompt "wait" waits until it is canceled."""

    canceled = threading.Event()

    def do_PUT(self) -> None:
        input = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        if input["prompt"] == "wait":
            self.canceled.wait(20)
        failed = {"status": "failed", "error": "no GPU memory"}
        self._answer(failed if input["prompt"] == "fail" else {"status": "succeeded", "output": [self.path, input]})

    def do_POST(self) -> None:
        assert self.path == "/predictions/task_1-2/cancel"
        self.canceled.set()
        self._answer({})

    def _answer(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def cog() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cog)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


CALL = "import cog_work, json, sys; print(json.dumps(cog_work.predict({'prompt': sys.argv[1]}, print)), flush=True)"
ATTEMPT = {"TASK_ID": "task_1", "TASK_ATTEMPT": "2"}


async def test_the_handler_for_cog_works(cog: str, tmp_path: Path) -> None:
    program("cog_work.py", tmp_path)
    async with running("-c", CALL, "a cat", folder=tmp_path, COG_URL=cog, **ATTEMPT) as process:
        assert await process.wait() == 0
    assert json.loads((tmp_path / "log").read_text()) == {"output": ["/predictions/task_1-2", {"prompt": "a cat"}]}
    async with running("-c", CALL, "fail", folder=tmp_path, COG_URL=cog, **ATTEMPT) as process:
        assert await process.wait() == 1
    assert "RuntimeError: no GPU memory" in (tmp_path / "log").read_text()


async def test_the_handler_for_cog_passes_a_cancel_on(cog: str, tmp_path: Path) -> None:
    file = program("cog_work.py", tmp_path)
    file.write_text(
        file.read_text().replace(
            '        prediction = call("PUT"', '        print("here", flush=True)\n        prediction = call("PUT"'
        )
    )

    async def begun() -> bool:
        return "here" in (tmp_path / "log").read_text()

    async with running("-c", CALL, "wait", folder=tmp_path, COG_URL=cog, **ATTEMPT) as process:
        await eventually(begun)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 1
    assert Cog.canceled.is_set()
