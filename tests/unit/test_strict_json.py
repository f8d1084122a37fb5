"""A JSON text that may travel, as `payload` or `result`: one rule, checked in C."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.json import shape
from infra.json.strict_json import check_text, same_text

GOOD = [
    "null", "true", "0", "-0", '""', "[]", "{}", ' {"a" : [1, 2.5e-3]} \n', '"😀"', r'"\ud83d\ude00"', r'"\\u0000"',
    r'"\\\\u0000"', r'"\\ud800"', '"\x7f\x85"', str(2**64 - 1), "9" * 4300, "-" + "9" * 4300, "1e308", "1E+308",
    "1e-9999", "0." + "1" * 5000, '"1e999"', '["1e999", 1]', '{"1e999":"' + "9" * 5000 + '"}', "0e999", "0e0999",
    "[" * 100 + "]" * 100, "[" * 100 + "1" + "]" * 100, '{"a":' * 100 + "1" + "}" * 100,
    "[" + "[]," * 300_000 + "[]]", "[" + "0.125," * 150_000 + "1]", '"' + "[" * 300_000 + '"',
    "[" + "1e300," * 100_000 + "1e-300]",
]  # fmt: skip
BAD = [
    "", " ", "{", "[1,]", '{"a":1,}', "{'a':1}", "{1:2}", "[1 2]", "[1] x", "01", "+1", "1.", ".5", "1e", "-", "nul",
    "NaN", "Infinity", "-Infinity", "[NaN]", "1e999", "-1e999", "[1E+400]", "[1e0999]", '{"a":"1e9", "b":1e999}',
    "9" * 309 + ".0", "9" * 400 + "e0", "9" * 300 + "e99", "1" + "0" * 199 + "." + "1" * 9 + "e110",
    "9" * 4301, "-" + "9" * 4301, "1" + "0" * 308 + "1e9", r'"\u0000"',
    r'"\\\u0000"', r'{"\u0000":1}', r'"\ud800"', r'"\udc00\ud800"', r'"\ud800A"', '"\ud800"', '"\x00"', '"\n"',
    r'"\x"', r'"\u12"', "\ufeff[]", "[1\x0c]", "[" * 101 + "]" * 101, '{"a":' * 101 + "1" + "}" * 101,
    "[" * 1_000_000, '[[[["a"]]]],' * 9, "[" + "1e300," * 100_000 + "1e999]", "]" + "[" * 200, "// x",
]  # fmt: skip


def short(text: str) -> str:
    return f"{text[:24]!a}-{len(text)}"


@pytest.mark.parametrize("text", GOOD, ids=short)
def test_what_may_travel(text: str) -> None:
    check_text(text)
    json.loads(text)


@pytest.mark.parametrize("text", BAD, ids=short)
def test_what_may_not(text: str) -> None:
    try:
        check_text(text)
    except ValueError:
        return
    pytest.fail("taken")


@pytest.mark.parametrize("piece", [2, 5, 65536])
@given(
    numbers=st.lists(
        st.tuples(
            st.integers(-(10**9), 10**9).filter(bool),  # 0 has no digit after it
            st.sampled_from(
                ["", "0" * 250 + "e50", "0" * 250 + "e58", ".5", "e5", "e300", "e307", "e310", "E+999", "e-999"]
            ),
        )
    )
)
def test_a_number_is_finite(piece: int, numbers: list[tuple[int, str]]) -> None:
    texts = [f"{number}{rest}" for number, rest in numbers]
    finite = all(abs(float(text)) != float("inf") for text in texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shape, "PIECE", piece)
        try:
            check_text(f'["1e999 9", {", ".join(["true", *texts])}]')
        except ValueError:
            assert not finite
        else:
            assert finite


ONE: Any = {"a": [1, 2.0, "x y"], "b": {"c": None}}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (json.dumps(ONE, indent=2), True),
        ('{"b":{"c":null},"a":[1,2,"x\\u0020y"]}', True),
        (json.dumps(ONE | {"b": {}}), False),
        (json.dumps(ONE)[:-1] + ', "n": ' + "9" * 4000 + "}", False),
        (json.dumps(ONE).replace("x y", "xy"), False),
    ],
)
def test_two_texts_mean_the_same(other: str, same: bool) -> None:
    assert same_text(json.dumps(ONE), other) is same


def test_long_integers_are_compared_by_their_digits() -> None:
    assert same_text("[" + "9" * 4000 + ",1]", "[" + "9" * 4000 + ", 1]")
    assert not same_text("[" + "9" * 4000 + "]", "[" + "9" * 3999 + "8]")
    assert not same_text("[" + "9" * 4000 + "]", '["' + "9" * 4000 + '"]')


def test_large_texts_are_compared_as_they_are_written() -> None:
    large = [["a b", n] for n in range(20_000)]
    assert same_text(json.dumps(large), json.dumps(large, separators=(",", ":")))
    assert not same_text(json.dumps(large), json.dumps(large).replace("a b", "ab"))
    assert not same_text(json.dumps(large), json.dumps(large[::-1]))


@pytest.mark.parametrize(
    "part", ["[],", "{},", '"",', '{"a":1},', "0,", "0.123456,", "1e300,", '"\\n\\\\",', "[[[[]]]],"]
)
def test_a_mebibyte_is_checked_in_a_moment(part: str) -> None:
    """Some 70 ms where this machine does nothing else; Python's parser with its objects takes up to 200."""
    text = "[" + part * (1024 * 1024 // len(part)) + "0]"
    started = time.thread_time()
    check_text(text)
    assert time.thread_time() - started < 1
