"""Pages of a table by number, in the URL."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

PER_PAGE = 50
LAST = 200
"""The last page: beyond it use filters, so that reads stay short."""


@dataclass(frozen=True)
class Pager:
    """Where one is among `total` rows."""

    number: int
    total: int
    query: QueryParams
    is_exact: bool = True
    """False if there are more rows than `total`."""

    @staticmethod
    def number_in(query: QueryParams) -> int:
        """The page number in the URL; 1 if it is not a number."""
        text = query.get("page", "1")
        return min(max(int(text), 1), LAST) if text.isdecimal() and len(text) < 6 else 1

    @property
    def first(self) -> int:
        return min((self.number - 1) * PER_PAGE + 1, self.total)

    @property
    def last(self) -> int:
        return min(self.number * PER_PAGE, self.total)

    @property
    def before(self) -> str | None:
        return self._to(self.number - 1) if self.number > 1 else None

    @property
    def after(self) -> str | None:
        return self._to(self.number + 1) if self.last < self.total and self.number < LAST else None

    @property
    def is_cut(self) -> bool:
        """Whether there are more rows, and no page for them."""
        return self.after is None and (self.last < self.total or not self.is_exact)

    def _to(self, number: int) -> str:
        return with_query(self.query, page=str(number))


def with_query(query: QueryParams, **changed: str) -> str:
    """The page's own address with some parameters changed; an empty one is left out. Filters begin at page one."""
    kept = [(name, value) for name, value in query.multi_items() if name not in changed and name != "page"]
    return "?" + urlencode(kept + [(name, value) for name, value in changed.items() if value])
