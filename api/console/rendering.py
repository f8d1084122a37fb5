"""Templates: HTML with every value escaped, in each language, and the parts of a page that are replaced while it is
open."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, lru_cache, partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from api.console import alert_words, assets, codes, marks, system_words, timeline, why
from api.console.page import Asked, Page
from api.console.paging import with_query
from api.console.texts import LANGUAGES, ROLES, translations

LONGEST = 120
"""Characters of a name that are shown at most; the whole is in its title."""
FOLDED = 300
"""Characters from which a text that is shown whole is folded."""
_MARK = secrets.token_hex(8)
_PLACE = re.compile(f"\x00{_MARK}.([0-9]+)\x00")
"""A placeholder. Nobody else can write one."""
_TURNS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that turn the direction of text: unbalanced ones would reach beyond the name."""


@dataclass
class Rendering:
    """A page as HTML, and its live parts by their ids. In `skeleton` and in the parts a part is a placeholder."""

    language: str = "en"
    parts: dict[str, str] = field(default_factory=dict)
    skeleton: str = ""
    _names: list[str] = field(default_factory=list)

    def live(self, name: str, tag: str = "div", kind: str = "", *, caller: Callable[[], str]) -> Markup:
        """`{% call live("id") %}…{% endcall %}`: an element that is replaced when its content has changed."""
        place = self._put(name, str(caller()))
        return Markup('<{0} id="{1}" class="{2}" data-live>{3}</{0}>').format(tag, name, kind, place)

    def live_row(self, name: str, row: Hashable) -> Markup:
        """A row of the fleet as a live part, rendered again only if it has changed."""
        place = self._put(name, row_of(self.language, row))
        return Markup('<div id="{}" class="node" data-live data-row>{}</div>').format(name, place)

    def _put(self, name: str, html: str) -> str:
        """Keep a part. Returns its placeholder."""
        self.parts[name] = html
        self._names.append(name)
        return f"\x00{_MARK}.{len(self._names) - 1}\x00"

    def part(self, name: str) -> str:
        """A part's HTML, with the parts inside of it."""
        return self._filled(self.parts[name])

    def html(self) -> str:
        """The whole."""
        return self._filled(self.skeleton)

    def _filled(self, text: str) -> str:
        return _PLACE.sub(lambda found: self.part(self._names[int(found[1])]), text)


def page(of: Page, asked: Asked, values: dict[str, Any]) -> Rendering:
    """A page with these values."""
    rendering = Rendering(asked.language)
    template = environment(asked.language).get_template(f"{of.name}.html")
    rendering.skeleton = template.render(
        values,
        live=rendering.live,
        live_row=rendering.live_row,
        role=str(asked.caller.role),
        query=asked.query,
        language=asked.language,
        api_url=asked.context.settings.base_url,
    )
    return rendering


@lru_cache(8192)
def row_of(language: str, row: Hashable) -> str:
    """A node of the fleet as HTML, cached: from one second to the next most rows don't change."""
    return environment(language).get_template("fleet_row.html").render(row=row).strip()


@cache
def environment(language: str) -> Environment:
    """The templates in a language."""
    env = Environment(
        loader=PackageLoader("api.console"),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    env.install_gettext_translations(translations(language), newstyle=True)  # type: ignore[attr-defined]  # of the extension
    env.filters |= {"number": number, "middle": middle, "name": name, "ago": moment, "duration": duration}
    env.filters |= {"whole": whole, "said": partial(system_words.said, language)}
    env.globals |= {
        "mark_of": marks.mark_of,
        "of_task": marks.of_task,
        "of_node": marks.of_node,
        "asset": assets.url_of,
        "languages": LANGUAGES,
        "outcome_of": timeline.outcome_of,
        "roles": ROLES,
        "codes": codes,
        "word_of": codes.word,
        "alert_words": alert_words.of_cause,
        "alert_detail": alert_words.detail_of,
        "alert_type": alert_words.type_of,
        "alert_node": alert_words.node_of,
        "with_query": with_query,
        "counted": partial(counted, language),
        "kinds_of_nodes": why.KINDS,
    }
    return env


def warm() -> None:
    """Read the texts, and compile what is rendered on the event loop."""
    for language in LANGUAGES:
        for name in ("frame", "symbols", "parts", "sign_in", "error"):
            environment(language).get_template(f"{name}.html")


@cache
def compile_all(language: str) -> None:
    """Compile every page, so that no rendering pays for it."""
    for name in environment(language).list_templates(["html"]):
        environment(language).get_template(name)


def counted(language: str, one: str, many: str) -> str:
    """A text for one and a text for any other number, as lines: the script, which knows the number, shows one."""
    return "\n".join(translations(language).ngettext(one, many, n) for n in (1, 2))


def number(value: float | None) -> str:
    """1234567 as `1,234,567`; a dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def middle(value: str, most: int = 20) -> Markup:
    """An id, shortened in its middle; the whole on hover and on copy."""
    head = (most - 1) // 2
    shown = value if len(value) <= most else f"{value[:head]}…{value[len(value) - (most - 1 - head) :]}"
    return Markup('<code class="id" title="{}" data-copy="{}">{}</code>').format(_bounded(value), value, shown)


def name(value: str | None) -> Markup:
    """Foreign words, isolated from the direction of the text around; long ones are cut."""
    if value is None or not value:
        return Markup('<span class="none">–</span>')
    shown = _TURNS.sub("\ufffd", value if len(value) <= LONGEST else value[: LONGEST - 1] + "…")
    return Markup('<bdi title="{}">{}</bdi>').format(_bounded(value), shown)


def whole(value: str) -> Markup:
    """Foreign words, isolated as a name is, but uncut and in their lines; long ones are folded."""
    shown = _TURNS.sub("\ufffd", value)
    if len(shown) <= FOLDED:
        return Markup('<bdi class="uncut">{}</bdi>').format(shown)
    return Markup(
        '<details class="folded"><summary><bdi>{}…</bdi></summary><bdi class="uncut">{}</bdi></details>'
    ).format(shown[: LONGEST - 1], shown)


def _bounded(value: str) -> str:
    return value if len(value) <= 500 else value[:499] + "…"


def moment(value: datetime | None) -> Markup:
    """A time: the browser makes it local and short."""
    if value is None:
        return Markup('<span class="none">–</span>')
    return Markup('<time datetime="{}">{}</time>').format(
        value.isoformat(timespec="milliseconds"), value.strftime("%Y-%m-%d %H:%M:%SZ")
    )


_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def duration(seconds: float | None) -> str:
    """A duration in at most two units: `1 m 12 s`; below ten seconds with a decimal."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s" if seconds >= 0.0995 else f"{max(seconds, 0) * 1000:.0f} ms"
    left, parts = round(seconds), list[str]()
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) if parts[1:] and not parts[1].startswith("0 ") else parts[0]
