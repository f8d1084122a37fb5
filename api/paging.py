"""Pages of a list (specification §3.1, §4.1): `page` and `size` in, X-Total-Count and Link (RFC 8288) out."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import Query, Request

from api.errors import BadRequest

MAX_PAGE = 2**31 - 1
MAX_SIZE = 100

PageText = Annotated[
    str,
    Query(description="页码", json_schema_extra={"type": "integer", "minimum": 1, "maximum": MAX_PAGE}),
]
SizeText = Annotated[
    str,
    Query(description="每页大小", json_schema_extra={"type": "integer", "minimum": 1, "maximum": MAX_SIZE}),
]


class Page:
    """A FastAPI dependency: which rows of the list are asked for; raises BadRequest."""

    def __init__(self, page: PageText = "1", size: SizeText = "20") -> None:
        self.page = _number(page, "page", MAX_PAGE)
        self.size = _number(size, "size", MAX_SIZE)

    @property
    def limit(self) -> int:
        return self.size

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.size


def headers(request: Request, page: Page, total: int) -> dict[str, str]:
    """X-Total-Count, and links to the first, previous, next and last page, with the other parameters as they are."""
    last = max(1, -(-total // page.size))
    targets = {"first": 1, "prev": min(page.page - 1, last), "next": page.page + 1, "last": last}
    if page.page <= 1:
        del targets["prev"]
    if page.page >= last:
        del targets["next"]
    links = [f'<{_url(request, number, page.size)}>; rel="{rel}"' for rel, number in targets.items()]
    return {"X-Total-Count": str(total), "Link": ", ".join(links)}


def _url(request: Request, number: int, size: int) -> str:
    others = [pair for pair in request.query_params.multi_items() if pair[0] not in ("page", "size")]
    return f"{quote(request.url.path)}?{urlencode([*others, ('page', number), ('size', size)])}"


def _number(text: str, field: str, largest: int) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 1 <= int(text) <= largest:
        raise BadRequest(field, f"必须是 1 到 {largest} 的整数")
    return int(text)
