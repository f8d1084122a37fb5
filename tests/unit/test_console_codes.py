"""No code of the system is shown as it is stored."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import infra
from api.console import codes, rendering
from infra.webhooks.sender import Trouble
from workflows.domain.system_actor import SystemActor

SOURCES = [Path(infra.__file__).parent, Path(infra.__file__).parent.parent / "activities"]


def rendered(text: str, language: str = "en", **values: object) -> str:
    template = '{% from "words.html" import by, owner %}' + text
    html = rendering.environment(language).from_string(template).render(values)
    return re.sub(r"<[^>]*>", "", html)


def test_every_part_of_the_system_that_acts_has_its_words() -> None:
    assert set(codes.PARTS) == set(SystemActor)


def test_every_reason_of_a_webhook_has_its_words() -> None:
    text = "".join(path.read_text() for folder in SOURCES for path in folder.rglob("*.py"))
    assert set(codes.DISABLED) == set(re.findall(r'disable\([^)]*, "(\w+)"\)', text))
    assert set(codes.TROUBLES) == {*Trouble, *re.findall(r'error="(\w+)"', text)}


@pytest.mark.parametrize(
    ("actor", "language", "said"),
    [
        ("key:key_1", "en", "by key key_1"),
        ("gpu:gpu_01", "en", "by node gpu_01"),
        ("gpu-health", "en", "by the node's workflow"),
        ("reconciler", "zh", "由对账程序"),
        ("of old", "en", "by of old"),
    ],
)
def test_who_did_something_is_said_in_words(actor: str, language: str, said: str) -> None:
    assert rendered("{{ by(actor, true) }}", language, actor=actor) == said


@pytest.mark.parametrize(
    ("key_id", "owner", "said"),
    [
        ("key_1", "temporal", "temporal"),
        ("temporal:run", "temporal", "A person in Temporal"),
        (None, "system", "The system itself"),
        (None, "cli:ada", "ada, on the command line"),
        (None, "tests", "tests"),
    ],
)
def test_only_who_has_no_key_is_a_part_of_the_system(key_id: str | None, owner: str, said: str) -> None:
    entry = SimpleNamespace(key_id=key_id, owner=owner)
    assert rendered("{{ owner(entry) }}", entry=entry) == said
