"""The console's languages are complete."""

from __future__ import annotations

import re

import pytest
from starlette.requests import Request

from api.console import texts
from api.console.texts import language_of
from tests.unit import console_texts


def test_every_text_has_its_chinese() -> None:
    known, wanted = console_texts.translated("zh"), console_texts.found()
    without = [one.id for one in wanted if one.id and not _said(known.get(one.id))]
    assert not without, "python -m tests.unit.console_texts adds them to zh.po"
    assert [one.id for one in known if one.id and wanted.get(one.id) is None] == []


def _said(message) -> bool:
    return message is not None and all(message.string if isinstance(message.string, tuple) else [message.string])


def test_a_translation_has_the_same_values() -> None:
    def values(text: str) -> list[str]:
        return sorted(re.findall(r"%\(\w+\)s|{\w+}", text))

    for one in console_texts.translated("zh"):
        if one.id:
            first, last = (each[-1] if isinstance(each, tuple) else each for each in (one.id, one.string))
            assert values(str(first)) == values(str(last)), one.id


def test_no_template_says_what_nobody_can_translate() -> None:
    assert list(console_texts.unmarked()) == []


def test_of_a_browser_s_languages_the_first_are_read() -> None:
    """A head holds 16,000 of them, which took 50 ms for a page."""
    assert texts._wanted("de," * 10_000) == ["de"]
    assert len(texts._wanted(",".join(f"x{n}" for n in range(10_000)))) == texts.MOST_WANTED


@pytest.mark.parametrize(
    ("accepted", "cookie", "language"),
    [
        ("", "", "zh"),
        ("de", "", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.8", "", "en"),
        ("fr, zh-Hans-CN;q=0.9", "", "zh"),
        ("zh;q=0.5, en;q=0.9", "", "en"),
        ("zh;q=0, en", "", "en"),
        ("en;q=0", "", "zh"),
        ("zh;q=x, en;q=0.1", "", "en"),
        ("en", "console_language=zh", "zh"),
        ("zh", "console_language=xx", "zh"),
    ],
)
def test_the_language_is_the_chosen_one_else_the_browser_s(accepted: str, cookie: str, language: str) -> None:
    headers = [(b"accept-language", accepted.encode()), (b"cookie", cookie.encode())]
    assert language_of(Request({"type": "http", "headers": headers})) == language


def test_both_languages_can_be_read() -> None:
    assert [texts.translations(one).gettext("Alerts") for one in texts.LANGUAGES] == ["告警", "Alerts"]
