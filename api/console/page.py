"""A page of the console: where it is, who may see it, and what it shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import QueryParams

from api.console.texts import translations
from api.dependencies import Context
from api.routes.roles import OPERATORS, USERS
from infra.db.access.callers import Caller
from workflows.domain.event import EventType
from workflows.domain.role import Role

EVERYBODY = OPERATORS | USERS
"""All who can sign in. A node's key cannot."""


@dataclass(frozen=True)
class Asked:
    """A request for a page. People who may see the same share one rendering, so a page may use only the caller's role,
    owner and lineage."""

    context: Context
    caller: Caller
    path: Mapping[str, str]
    query: QueryParams
    language: str

    def _(self, text: str) -> str:
        """The text in the person's language."""
        return translations(self.language).gettext(text)


Contents = Callable[[Asked], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Page:
    """A page. `path` is below /console and may have parameters; `name` is that of its template.

    `contents` gives the template's variables, and raises what a route of the API raises. `events` are the types after
    which it is rendered again; without any it is rendered every `every_s` seconds while anyone looks at it, or
    rarely if the contents say `is_still`.
    """

    name: str
    path: str
    title: str
    contents: Contents
    roles: frozenset[Role] = OPERATORS
    events: frozenset[EventType] = frozenset()
    every_s: float = 5.0
    entry: str | None = None
    """The entry of the rail that leads here, or to which the page belongs: the path of that page."""
    is_listed: bool = True
    """Whether it has an entry of its own in the rail."""
    key: str = field(default="", kw_only=True)
    """The letter that leads to it after `g`."""
    topic: str | None = field(default=None, kw_only=True)
    """The parameter of the path that names the only task whose events matter, or None if those of all do."""
