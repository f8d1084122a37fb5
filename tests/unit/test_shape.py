"""The counts taken of a JSON text before it is parsed agree with what a parser finds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.json import shape
from infra.json.shape import TooDeep, TooManyValues

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(alphabet='a"\\[]{},: \n图'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='a"\\[]{},:'), inner),
    max_leaves=30,
)


def values(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(values, inner))


def depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)


@pytest.mark.parametrize("piece", [2, 3, 7, 65536])
@given(value=VALUES, indent=st.sampled_from([None, 1]), ascii=st.booleans())
def test_it_counts_what_a_parser_finds(piece: int, value: Any, indent: int | None, ascii: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shape, "PIECE", piece)
        shape.check(text, max_depth=depth(value), max_values=values(value))
        with pytest.raises(TooManyValues):
            shape.check(text, max_depth=depth(value), max_values=values(value) - 1)
        if depth(value):
            with pytest.raises(TooDeep):
                shape.check(text, max_depth=depth(value) - 1)
        plain = json.dumps(value, separators=(",", ":"), ensure_ascii=ascii).encode()
        assert shape.compact(text) == shape.compact(plain)


@pytest.mark.parametrize(
    ("text", "count"),
    [("[[],[]]", 3), ("[ [ ] , { } ]", 3), ('{"a":[{}],"b":"[,{"}', 4), ("[1,[2,3]]", 5), ('"a"', 1), ("{}", 1)],
)
def test_keys_are_no_values(text: str, count: int) -> None:
    shape.check(text.encode(), max_depth=9, max_values=count)
    with pytest.raises(TooManyValues):
        shape.check(text.encode(), max_depth=9, max_values=count - 1)


@pytest.mark.parametrize("text", ["]" * 300_000, "[" * 300_000, '"' * 300_000, "\\" * 300_001, "," * 300_000, "{[" * 9])
def test_what_is_no_json_is_counted_too(text: str) -> None:
    try:
        shape.check(text.encode(), max_depth=64, max_values=20_000)
    except shape.Excess:
        assert text[0] in "[,"
