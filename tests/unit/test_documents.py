"""Payloads and results as people read them."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest

from api.console import documents
from api.console.documents import LONG, MOST_PICTURES, MOST_SHOWN
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
