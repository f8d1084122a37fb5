"""Which lines of a program's output are its result: the last JSON document, never a part of one."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.node.documents import Documents
from workers.node.errors import BadOutput
from workers.node.lines import LineSplitter

SOUND = {"score": 0.25, "boxes": [[1, 2], [3, 4]], "face": {"found": True}}
INDENTED = json.dumps(SOUND, indent=2)
IN_JAVASCRIPT = """\
{
  score: 0.25,
  boxes: [
    [ 1, 2 ],
    [ 3, 4 ]
  ],
  names: [
    "a",
    null
  ]
}
"""


def last(stdout: bytes | str) -> Any:
    documents = Documents()
    lines = LineSplitter(documents.line, 2_000_000)
    lines.feed(stdout if isinstance(stdout, bytes) else stdout.encode())
    lines.end()
    return json.loads(documents.last())


@pytest.mark.parametrize(
    ("stdout", "result"),
    [
        ('{"a": 1}\n', {"a": 1}),
        ('{"a": 1}', {"a": 1}),
        ('loading\n{"a": 1}\n{"a": 2}\ndone.\n', {"a": 2}),
        ('{"a": 1}\n[INFO] 100\n100\n"bye"\n', {"a": 1}),
        (b"\xe5\x9b\xbe\xff\n  [1, 2]  \r\n", [1, 2]),
        ("working\n42\n", 42),
        ("1\n-2.5e3\n[4\n", None),
        ("true\n01\n1 2\n+1\n.5\n1.\nTrue\n'x'\nx\n", True),
        ('"half of a \\ud83d"\n', "half of a \ud83d"),
        ('{"name": "图"}', {"name": "图"}),
        (INDENTED, SOUND),
        (f"{INDENTED}\n\n \n", SOUND),
        (f'{{"a": 1}}\n{INDENTED}\nsaved {{4}} files [ok]\n[2024-01-02 10:00:00] {{done}}\n', SOUND),
        (f"[1/3] reading {{\n[INFO] [\n{{'a': [1,\n{INDENTED}", SOUND),
        (INDENTED.replace("\n", "\r\n"), SOUND),
        (INDENTED.replace("\n", "\n\n\t"), SOUND),
        (json.dumps(SOUND, indent=0), SOUND),
        (b"\xef\xbb\xbf" + INDENTED.encode(), SOUND),
        (b"\xef\xbb\xbf4", 4),
        (f"{INDENTED} trailing words\n", None),
        (f"words {INDENTED}\n", None),
        (f"words\n  and words: {INDENTED.replace(chr(10), chr(10) + '  ')}\n4\n", 4),
        (f"words {INDENTED}\n{INDENTED}\n", SOUND),
        ("Face {\n    boxes: [\n        [\n            1\n        ]\n    ]\n}", None),
        (f"{INDENTED}{{}}\n", None),
        ('{"a"\n:\n1\n,\n"b"\n:\n[\n]\n}', {"a": 1, "b": []}),
        ('{"text": "}\\n{[\\"", "n": 1}', {"text": '}\n{["', "n": 1}),
        ('{"a": 1}\n{"b": [1, 2\n{"c": 3}\n', {"c": 3}),  # the second breaks where its next line begins
        ('{"a": 1}\n{\n  "b": 2,\n}\n', {"a": 1}),
        ("[\n  // comment\n  [1],\n  [2]\n]\n", None),
        (IN_JAVASCRIPT, None),
        (f'{{"a": 1}}\n{IN_JAVASCRIPT}', {"a": 1}),
        (f'{IN_JAVASCRIPT}{{"a": 1}}\n', {"a": 1}),
        ("[1,\n 2],\n", None),
        ('{"a": 1}\n[\n', None),
        ('{"a": 1}\n{"b": "cut\nbye', {"a": 1}),
        ('{"a": 1}\n]\n}\n, 4\n: 5\n', {"a": 1}),
    ],
)
def test_the_last_document_is_the_result(stdout: bytes | str, result: Any) -> None:
    try:
        assert last(stdout) == result
    except BadOutput:
        assert result is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.lists(VALUES) | st.dictionaries(st.text(), VALUES)
INDENTS = st.sampled_from([None, 0, 1, 2, 4, "\t"])
NOISE = st.lists(
    st.text(st.sampled_from('ab1"[]{},: \t\\'), max_size=12).map(lambda text: f"> {text}")
    | st.sampled_from(
        ["", "  ", "100", "[INFO] x", "{x}", "]", "}", "[1/3]", "null", '"a"', "{'a': 1}", "[1] {", "\t]"]
    )
)


@given(
    earlier=st.lists(st.tuples(DOCUMENTS, INDENTS), max_size=2),
    document=DOCUMENTS,
    indent=INDENTS,
    ascii=st.booleans(),
    noise=st.lists(NOISE, min_size=3, max_size=3),
    end=st.sampled_from(["\n", "\r\n"]),
    ends=st.booleans(),
)
def test_whatever_is_printed_around_it(
    earlier: list[Any], document: Any, indent: Any, ascii: bool, noise: list[list[str]], end: str, ends: bool
) -> None:
    texts = [json.dumps(one, indent=how) for one, how in earlier]
    text = json.dumps(document, indent=indent, ensure_ascii=ascii)
    lines = [*noise[0], *texts, *noise[1], *text.split("\n"), *noise[2]]
    assert last((end.join(lines) + (end if ends else "")).encode()) == document


@given(document=DOCUMENTS, indent=INDENTS, data=st.data(), earlier=st.sampled_from(["", '{"ok": 1}\n', "x\n4\n"]))
def test_one_that_is_cut_off_is_no_result_nor_is_anything_before_it(
    document: Any, indent: Any, data: st.DataObject, earlier: str
) -> None:
    text = json.dumps(document, indent=indent).encode()
    cut = text[: data.draw(st.integers(1, len(text) - 1))]
    with pytest.raises(BadOutput, match="ends inside of a JSON document"):
        last(earlier.encode() + cut)


@given(
    lines=st.lists(st.text(st.sampled_from('[]{},:"a1 \\'), max_size=8), max_size=8),
)
def test_what_is_taken_is_a_document_of_whole_lines(lines: list[str]) -> None:
    """Holds for any lines at all."""
    try:
        found = last("\n".join(lines))
    except BadOutput:
        return
    spans = ["\n".join(lines[start:end]) for end in range(len(lines) + 1) for start in range(end)]
    assert any(parsed(span) == [found] for span in spans)


def parsed(text: str) -> list[Any]:
    try:
        return [json.loads(text)]
    except ValueError:
        return []


@pytest.mark.parametrize(
    "part",
    [
        "loading {model}\n",
        "[INFO] step [1]\n",
        '{"event": "step", "loss": 0.25}\n',
        "[\n",
        "[1,\n",
        "{\n",
        '{"a":\n',
        "[" * 1000 + "\n",
        '"' + "[" * 1000 + "\n",
        '["' + "\\u00" * 250 + "\n",
        "[[],[],[],[],\n",
        "  0.25,\n",
        f"{INDENTED}\n",
        "[1 1\n[\n]\n",
        "-\n",
        "9" * 1000 + "\n",
        "[" + "9" * 1000 + "\n",
    ],
)
@pytest.mark.parametrize("begin", ["", "[\n"])
def test_many_megabytes_take_moments(begin: str, part: str) -> None:
    documents = Documents()
    lines = (begin + part * (200_000 // len(part))).encode().split(b"\n")
    started = time.thread_time()
    for line in lines:
        documents.line(line)
    assert time.thread_time() - started < 5
