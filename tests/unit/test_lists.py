"""Lists that are too large for one answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import URL, QueryParams
from starlette.requests import Request

from api.http.errors import BadRequest
from api.http.lists import MAX_ANSWER, Item, encode, encoded
from api.http.paging import MAX_PAGE, Page, WholeOrPage


def item(number: int, *sizes: int | None, letter: str = "x") -> Item:
    """`None`: the database has left it out."""
    names = ("payload", "result")
    large: dict[str, str | bytes | None] = {
        name: None if size is None else letter * size for name, size in zip(names, sizes, strict=False)
    }
    return Item(b'{"id":%d}' % number, large)


def decoded(items: list[Item], most: int = MAX_ANSWER) -> list[dict[str, Any]]:
    body = encode(items, most)
    assert len(body) <= most
    answer = json.loads(body)
    assert list(answer) == ["code", "message", "data"]
    assert (answer["code"], answer["message"]) == (200, "success")
    found: list[dict[str, Any]] = answer["data"]
    return found


def test_what_fits_is_whole() -> None:
    assert decoded([]) == []
    assert decoded([item(1, 3, 2), item(2)]) == [{"id": 1, "payload": "xxx", "result": "xx"}, {"id": 2}]
    assert decoded([item(1, 0)]) == [{"id": 1, "payload": ""}]


def test_the_largest_are_left_out_and_named() -> None:
    items = [item(1, 10, 600), item(2, 700, 20), item(3, 5, 5)]
    assert decoded(items, 1000) == [
        {"id": 1, "payload": "x" * 10, "result": None, "omitted": ["result"]},
        {"id": 2, "payload": None, "result": "x" * 20, "omitted": ["payload"]},
        {"id": 3, "payload": "xxxxx", "result": "xxxxx"},
    ]


def test_what_the_database_has_left_out_is_named_too() -> None:
    assert decoded([item(1, None, 1)]) == [{"id": 1, "payload": None, "result": "x", "omitted": ["payload"]}]


async def test_long_texts_are_encoded_off_the_loop() -> None:
    items = [item(number, 40_000, letter='"') for number in range(100)]
    encoding = asyncio.create_task(encoded(items))
    beats = 0
    while not encoding.done():
        await asyncio.sleep(0)
        beats += 1
    assert await encoding == encode(items)
    assert beats > 2


def test_the_encoded_size_counts() -> None:
    """A control character is one byte in the database, and six in the answer."""
    items = [item(number, 40_000, letter="\x01") for number in range(100)]
    shown = [one for one in decoded(items) if one["payload"]]
    assert 0.9 * MAX_ANSWER < sum(6 * len(one["payload"]) for one in shown) < MAX_ANSWER


@given(st.lists(st.lists(st.one_of(st.none(), st.integers(0, 400)), max_size=2), max_size=12))
def test_no_answer_is_larger_than_the_bound(sizes: list[list[int | None]]) -> None:
    items = [item(number, *pair) for number, pair in enumerate(sizes)]
    for one, given_item in zip(decoded(items, 2500), items, strict=True):
        assert set(one) - {"id", "omitted"} == set(given_item.large)
        nulls = [name for name in given_item.large if one[name] is None]
        assert one.get("omitted", []) == nulls


def request(query: str = "") -> Request:
    found = Request({"type": "http", "method": "GET", "path": "/gpus", "query_string": query.encode(), "headers": []})
    assert isinstance(found.url, URL)
    assert isinstance(found.query_params, QueryParams)
    return found


@pytest.mark.parametrize(
    ("size", "shown", "following"),
    [(100, 1000, "page=11&size=100"), (5000, 100, "page=2&size=100")],
)
async def test_a_whole_list_ends_where_the_answer_is_full(size: int, shown: int, following: str) -> None:
    items = [Item(b'{"id":%d,"text":"%b"}' % (number, b"x" * size), {}) for number in range(1000)]
    answer = await WholeOrPage(None).answer(request(), items, 2345)
    assert len(answer.body) <= MAX_ANSWER
    assert [one["id"] for one in json.loads(bytes(answer.body))["data"]] == list(range(shown))
    assert answer.headers["X-Total-Count"] == "2345"
    links = dict(link.split("; ")[::-1] for link in answer.headers["Link"].split(", "))
    assert links['rel="next"'] == f"</gpus?{following}>"
    assert set(links) == {'rel="first"', 'rel="next"', 'rel="last"'}


async def test_a_list_that_fits_has_no_neighbours() -> None:
    answer = await WholeOrPage(None).answer(request(), [Item(b'{"id":1}', {})], 1)
    assert "Link" not in answer.headers
    assert (WholeOrPage(None).limit, WholeOrPage(None).offset) == (1000, 0)
    paged = WholeOrPage(Page(2, 10))
    assert (paged.limit, paged.offset) == (10, 10)
    assert 'rel="prev"' in (await paged.answer(request("page=2&size=10"), [], 30)).headers["Link"]


def test_beyond_a_bound_there_is_no_page() -> None:
    for page, links in ((1, {"first", "next"}), (3, {"first", "prev", "next"}), (4, {"first", "prev"})):
        headers = Page(page, 30).headers_of_many(request(), 100)
        assert {link.split('rel="')[1].rstrip('"') for link in headers["Link"].split(", ")} == links
    for page in (5, MAX_PAGE):
        with pytest.raises(BadRequest, match="page 超出范围: 此列表最多翻至第 100 项，另见"):
            Page(page, 30).headers_of_many(request(), 100, "，另见")
