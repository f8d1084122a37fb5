"""The account that Postgres runs as, and how it reaches its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.stack import account
from workers.stack.errors import StackError


def test_an_ordinary_user_runs_postgres_as_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert account.unprivileged_account([tmp_path]) is None


def test_a_closed_folder_on_the_way_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    inner.parent.chmod(0o700)
    other = os.geteuid() + 1
    assert inner.parent in account._closed_folders(inner, other)
    assert inner.parent not in account._closed_folders(inner, os.geteuid())
    inner.parent.chmod(0o711)
    assert inner.parent not in account._closed_folders(inner, other)


@pytest.mark.parametrize(
    ("held", "kept"),
    [
        ({account.CAP_DAC_READ_SEARCH, account.CAP_DAC_OVERRIDE, account.CAP_SETPCAP}, account.CAP_DAC_READ_SEARCH),
        ({account.CAP_DAC_OVERRIDE, account.CAP_SETPCAP}, account.CAP_DAC_OVERRIDE),
    ],
)
def test_the_narrowest_capability_is_kept(monkeypatch: pytest.MonkeyPatch, held: set[int], kept: int) -> None:
    monkeypatch.setattr(account, "_held_capabilities", lambda: held)
    assert account._capability_to_pass(Path("/root")) == kept


def test_without_a_capability_the_error_says_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "_held_capabilities", set)
    with pytest.raises(StackError, match=r"cannot pass /root: .*ORCHESTRATOR_DATA_DIR.*ORCHESTRATOR_DATABASE_URL"):
        account._capability_to_pass(Path("/root"))
