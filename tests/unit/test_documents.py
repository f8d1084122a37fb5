"""Payloads and results as people read them."""

from __future__ import annotations

import json
import time
from base64 import b64decode

import pytest

from api.console import documents
from api.console.documents import LONG, MOST_PICTURES, MOST_SHOWN, MOST_VALUES, Document
from api.console.rendering import name
from tests.console.world import picture

PNG = picture()


@pytest.mark.parametrize(
    "value",
    [PNG, [PNG], {"images": [{"b64": PNG}]}, f"data:image/png;base64,{PNG}", PNG[:76] + "\n" + PNG[76:]],
)
def test_pictures_are_found_wherever_they_are(value: object) -> None:
    (found,) = documents.read(json.dumps(value)).pictures
    assert (found.media_type, b64decode(found.base64)) == ("image/png", b64decode(PNG))


@pytest.mark.parametrize(
    "value",
    [
        "iVBORw0KGgo<script>",
        "data:image/svg+xml;base64,PHN2Zz4=",
        'data:image/png;base64,x" onerror="1',
        "text",
        7,
        None,
        {},
    ],
)
def test_other_texts_are_no_pictures(value: object) -> None:
    assert documents.read(json.dumps(value)).pictures == ()


def test_pictures_are_few_and_texts_are_cut() -> None:
    assert len(documents.read(json.dumps([PNG] * 20)).pictures) == MOST_PICTURES
    shown = documents.read(json.dumps({"long": "x" * 5000, "short": "y" * LONG}))
    assert "(5,000)" in shown.text
    assert "y" * LONG in shown.text
    assert not shown.is_cut
    many = documents.read(json.dumps(list(range(20_000))))
    assert (len(many.text), many.is_cut) == (MOST_SHOWN, True)


def test_what_is_no_json_is_shown_as_it_is() -> None:
    shown = documents.read("<b>no json")
    assert (shown.text, shown.is_json) == ("<b>no json", False)
    assert not documents.read("[" * 100_000).is_json


def test_a_name_keeps_its_direction_to_itself() -> None:
    assert str(name("a\u202eb\u2066c")) == '<bdi title="a\u202eb\u2066c">a\ufffdb\ufffdc</bdi>'


def test_what_json_escapes_can_be_sent() -> None:
    shown = documents.read('{"a\\ud800": "\\udfff", "b": "\\u0000\\ud83d\\ude00"}')
    assert shown.text.encode()
    assert "😀" in shown.text
    assert "\x00" not in shown.text


def test_only_what_is_shown_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "[" * 90 + ",".join(["1"] * 40_000) + "]" * 90
    made: list[str] = []
    first = documents._first
    monkeypatch.setattr(documents, "_first", lambda pieces: first(made.append(piece) or piece for piece in pieces))  # type: ignore[func-returns-value]
    shown = documents.read(deep)
    assert (len(shown.text), shown.is_cut, shown.size) == (MOST_SHOWN, True, len(deep))
    assert sum(map(len, made)) < MOST_SHOWN + 1000
    assert documents.read(deep) is shown


@pytest.mark.parametrize(
    ("text", "is_picture"),
    [
        ("A" * 53, True),
        ("A" * 52, False),
        (" \n" + "A" * 60 + " \n", True),
        ("A" * 60 + "=", True),
        ("A" * 60 + "== \n", True),
        ("A" * 60 + " \n==", True),
        ("A" * 60 + "===", False),
        ("A" * 60 + "= =", False),
        ("A" * 60 + "=A", False),
        ("A" * 60 + "!", False),
        (" " * 60, True),
    ],
)
def test_base64_is_known_by_its_letters(text: str, is_picture: bool) -> None:
    assert (documents._picture("iVBORw0KGgo" + text) is not None) is is_picture


@pytest.mark.parametrize("end", ["!", "= =", ""])
def test_a_text_of_blanks_is_read_once(end: str) -> None:
    """A search that goes back would take hours."""
    began = time.thread_time()
    documents._picture("iVBORw0KGgo" + " " * 1_000_000 + end)
    assert time.thread_time() - began < 2


def test_a_document_of_many_values_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (json.dumps([0] * n) for n in (MOST_VALUES - 1, MOST_VALUES))
    assert documents.read(few).text.startswith("[\n  0,")
    monkeypatch.setattr(json, "loads", pytest.fail)
    assert documents.read(many) == Document(many[:MOST_SHOWN], True, len(many), is_json=False)
