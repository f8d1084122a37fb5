"""Pages of a list (specification §3.1, §4.1, 注意事项 5): `page`, `size` in, X-Total-Count, Link (RFC 8288) out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, urlencode

from fastapi import Depends, Query, Request
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from api.http import lists
from api.http.envelope import JSON
from api.http.errors import BadRequest, refusal
from api.http.lists import Item

T = TypeVar("T")

MAX_PAGE = 2**31 - 1
MAX_SIZE = 100
USUAL_SIZE = 20
MAX_WHOLE = 1000
"""Entries of a list when no page is requested. Its `Link` leads to the rest."""
EXACT = "X-Total-Count-Exact"
INEXACT: dict[str, Any] = {
    EXACT: {
        "description": "扩展：false 表示 X-Total-Count 是下限",
        "schema": {"type": "string", "enum": ["true", "false"]},
    }
}
"""The further header of a list whose total may be a bound, for the document."""
WHOLE = "不分页时最多返回 1000 项，响应不超过 4 MiB，其余见 `Link`。"


def up_to(largest: int) -> Callable[[str], int]:
    """A validator of a query's text: an integer from 1 to `largest`."""

    def number(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", text) or not 1 <= int(text) <= largest:
            raise refusal(f"必须是 1 到 {largest} 的整数")
        return int(text)

    return number


PageNumber = Annotated[int, Field(ge=1, le=MAX_PAGE), BeforeValidator(up_to(MAX_PAGE))]
PageSize = Annotated[int, Field(ge=1, le=MAX_SIZE), BeforeValidator(up_to(MAX_SIZE))]


@dataclass(frozen=True)
class Page:
    """The rows of a list that were requested."""

    page: int
    size: int

    @property
    def limit(self) -> int:
        return self.size

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.size

    def headers(self, request: Request, total: int) -> dict[str, str]:
        """X-Total-Count, and links to the first, previous, next and last page. Other parameters are kept."""
        last = max(1, -(-total // self.size))
        targets = {"first": 1, "prev": min(self.page - 1, last), "next": self.page + 1, "last": last}
        if self.page <= 1:
            del targets["prev"]
        if self.page >= last:
            del targets["next"]
        return {"X-Total-Count": str(total), "Link": self._links(request, targets)}

    def headers_of_many(self, request: Request, bound: int, beyond: str = "") -> dict[str, str]:
        """The headers where more than `bound` rows fit, an unknown number. Raises BadRequest for a page beyond, whose
        text ends with `beyond`."""
        if self.offset >= bound:
            raise BadRequest("page", f"超出范围: 此列表最多翻至第 {bound} 项{beyond}")
        targets = {"first": 1, "prev": self.page - 1, "next": self.page + 1}
        if self.page <= 1:
            del targets["prev"]
        if self.offset + self.size >= bound:
            del targets["next"]
        return {"X-Total-Count": str(bound), EXACT: "false", "Link": self._links(request, targets)}

    def _links(self, request: Request, targets: dict[str, int]) -> str:
        return ", ".join(f'<{_url(request, number, self.size)}>; rel="{rel}"' for rel, number in targets.items())


@dataclass(frozen=True)
class WholeOrPage:
    """A list that the specification shows whole, up to MAX_WHOLE entries, unless `page` or `size` is given."""

    page: Page | None

    @property
    def limit(self) -> int:
        return MAX_WHOLE if self.page is None else self.page.limit

    @property
    def offset(self) -> int:
        return 0 if self.page is None else self.page.offset

    def of(self, rows: Sequence[T]) -> Sequence[T]:
        """The rows of the whole list that were requested."""
        return rows[self.offset : self.offset + self.limit]

    def headers(self, request: Request, total: int) -> dict[str, str]:
        """X-Total-Count, and the links of a page. A whole list has no neighbours."""
        if self.page is not None:
            return self.page.headers(request, total)
        return _beginning(request, MAX_WHOLE, total)

    async def answer(self, request: Request, items: Sequence[Item], total: int) -> Response:
        """The list, or as many of its first entries as an answer holds."""
        if self.page is not None:
            return await lists.answer(items, self.page.headers(request, total))
        body, shown = await lists.encoded(items), MAX_WHOLE
        if len(body) > lists.MAX_ANSWER:
            body, shown = await lists.encoded(items[:MAX_SIZE]), MAX_SIZE
        return Response(body, media_type=JSON, headers=_beginning(request, shown, total))


def _beginning(request: Request, shown: int, total: int) -> dict[str, str]:
    """The headers of a list that was cut: its next page begins after the last entry."""
    headers = {"X-Total-Count": str(total)}
    if total > shown:
        following = Page(shown // MAX_SIZE, MAX_SIZE).headers(request, total)["Link"].split(", ")
        headers["Link"] = ", ".join(link for link in following if 'rel="prev"' not in link)
    return headers


async def page_of(  # async, as the one below: FastAPI would run it in a thread
    page: Annotated[PageNumber, Query(description="页码")] = 1,
    size: Annotated[PageSize, Query(description="每页大小")] = USUAL_SIZE,
) -> Page:
    """A FastAPI dependency: the requested page."""
    return Page(page, size)


async def whole_or_page_of(
    page: Annotated[PageNumber | None, Query(description="页码；与 size 均缺省时返回整个列表")] = None,
    size: Annotated[PageSize | None, Query(description="每页大小；与 page 均缺省时返回整个列表")] = None,
) -> WholeOrPage:
    """A FastAPI dependency: the requested page, or the whole list."""
    return WholeOrPage(None if page is None and size is None else Page(page or 1, size or USUAL_SIZE))


PageOf = Annotated[Page, Depends(page_of)]
WholeOrPageOf = Annotated[WholeOrPage, Depends(whole_or_page_of)]


def _url(request: Request, number: int, size: int) -> str:
    others = [pair for pair in request.query_params.multi_items() if pair[0] not in ("page", "size")]
    return f"{quote(request.url.path)}?{urlencode([*others, ('page', number), ('size', size)])}"
