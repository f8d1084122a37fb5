"""Answers that are not the API's, and none at all."""

from __future__ import annotations

import errno
import os

import pytest

from gpu_orchestrator_client import calls, naming
from tests.unit.command.samples import Captured, Serve
from workers.cli import main
from workers.command import output


def test_a_redirect_is_not_followed(serve: Serve, capsys: Captured) -> None:
    other = serve({"GET /gpus": [(200, [])]})
    api = serve({"GET /gpus": [(302, "moved", {"Location": f"{other.url}/api/v2/gpus"})]})
    assert main(["nodes"]) == 5
    assert len(api.calls) == 1
    assert not other.calls
    assert "(302)" in capsys.readouterr().err


def test_a_server_that_is_not_ours(serve: Serve, capsys: Captured) -> None:
    serve({"GET /gpus": ["<html>"]})
    assert main(["nodes"]) == 5
    assert "not as the API does" in capsys.readouterr().err


def test_a_disk_that_is_full(serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    serve({"GET /gpus": [(200, [])]})

    def full(text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(output, "write", full)
    assert main(["nodes", "--json"]) == 5
    assert capsys.readouterr().err == "error: No space left on device\n"


def test_nobody_there(serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(calls.call, "__defaults__", (0.5, calls.LEAST_TRIES))
    monkeypatch.setenv(naming.URL, "http://127.0.0.1:1")
    assert main(["nodes"]) == 5
    said = capsys.readouterr().err
    assert "http://127.0.0.1:1: no answer: [Errno 111] Connection refused; trying again\n" in said
    assert said.endswith("gpu-orchestrator login URL changes the address\n")


def test_nobody_is_signed_in(serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.delenv(naming.KEY)
    assert main(["nodes"]) == 5
    assert "gpu-orchestrator login" in capsys.readouterr().err


def test_what_goes_to_this_machine_goes_to_no_proxy(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # nobody listens there
    monkeypatch.delenv("no_proxy", raising=False)
    api = serve({"POST /tasks/cancel": [(200, {"matched": 0})]})
    assert main(["cancel", "--all", "--dry-run"]) == 0
    assert api.calls
