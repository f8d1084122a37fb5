"""Pages of a list (specification §3.1, §4.1, 注意事项 5): `page`, `size` in, X-Total-Count, Link (RFC 8288) out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar
from urllib.parse import quote, urlencode

from fastapi import Depends, Query, Request
from pydantic import BeforeValidator, Field

from api.errors import refusal

T = TypeVar("T")

MAX_PAGE = 2**31 - 1
MAX_SIZE = 100
USUAL_SIZE = 20


def _up_to(largest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", text) or not 1 <= int(text) <= largest:
            raise refusal(f"必须是 1 到 {largest} 的整数")
        return int(text)

    return number


PageNumber = Annotated[int, Field(ge=1, le=MAX_PAGE), BeforeValidator(_up_to(MAX_PAGE))]
PageSize = Annotated[int, Field(ge=1, le=MAX_SIZE), BeforeValidator(_up_to(MAX_SIZE))]


@dataclass(frozen=True)
class Page:
    """Which rows of the list are asked for."""

    page: int
    size: int

    @property
    def limit(self) -> int:
        return self.size

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.size

    def headers(self, request: Request, total: int) -> dict[str, str]:
        """X-Total-Count, and links to the first, previous, next and last page; other parameters stay as they are."""
        last = max(1, -(-total // self.size))
        targets = {"first": 1, "prev": min(self.page - 1, last), "next": self.page + 1, "last": last}
        if self.page <= 1:
            del targets["prev"]
        if self.page >= last:
            del targets["next"]
        links = [f'<{_url(request, number, self.size)}>; rel="{rel}"' for rel, number in targets.items()]
        return {"X-Total-Count": str(total), "Link": ", ".join(links)}


@dataclass(frozen=True)
class WholeOrPage:
    """A list that the specification shows whole: so it is, unless `page` or `size` is given."""

    page: Page | None

    def of(self, rows: Sequence[T]) -> Sequence[T]:
        """The rows of the whole list that are asked for."""
        page = self.page
        return rows if page is None else rows[page.offset : page.offset + page.limit]

    def headers(self, request: Request, total: int) -> dict[str, str]:
        """X-Total-Count, and the links of a page; a whole list has no neighbours."""
        return {"X-Total-Count": str(total)} if self.page is None else self.page.headers(request, total)


async def page_of(  # async, as the other: FastAPI runs what is not in a thread
    page: Annotated[PageNumber, Query(description="页码")] = 1,
    size: Annotated[PageSize, Query(description="每页大小")] = USUAL_SIZE,
) -> Page:
    """A FastAPI dependency: the page that is asked for."""
    return Page(page, size)


async def whole_or_page_of(
    page: Annotated[PageNumber | None, Query(description="页码；与 size 均缺省时返回整个列表")] = None,
    size: Annotated[PageSize | None, Query(description="每页大小；与 page 均缺省时返回整个列表")] = None,
) -> WholeOrPage:
    """A FastAPI dependency: the page that is asked for, or the whole list."""
    return WholeOrPage(None if page is None and size is None else Page(page or 1, size or USUAL_SIZE))


PageOf = Annotated[Page, Depends(page_of)]
WholeOrPageOf = Annotated[WholeOrPage, Depends(whole_or_page_of)]


def _url(request: Request, number: int, size: int) -> str:
    others = [pair for pair in request.query_params.multi_items() if pair[0] not in ("page", "size")]
    return f"{quote(request.url.path)}?{urlencode([*others, ('page', number), ('size', size)])}"
