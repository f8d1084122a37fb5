"""The console's languages: English is in the code, Chinese in `locale/zh.po`, read at the start."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from gettext import NullTranslations
from io import BytesIO
from pathlib import Path

from babel.core import negotiate_locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from starlette.requests import Request

from api.middleware.cookies import cookie
from workflows.domain.role import Role

LANGUAGES: Mapping[str, str] = {"zh": "中文", "en": "English"}
"""Each with its own name. The first is the default."""
COOKIE = "console_language"
MOST_ACCEPTED = 200
"""Characters of an Accept-Language that are looked at."""
FOLDER = Path(__file__).parent / "locale"


def N_(text: str) -> str:
    """Mark a text as one to be translated where it is shown."""
    return text


ROLES = {Role.ADMIN: N_("Administrator"), Role.OPERATOR: N_("Operator"), Role.USER: N_("User"), Role.NODE: N_("Node")}


@cache
def translations(language: str) -> NullTranslations:
    """The texts of a language."""
    if language == "en":
        return NullTranslations()
    with (FOLDER / f"{language}.po").open("rb") as file:
        catalog = read_po(file, locale=language)
    compiled = BytesIO()
    write_mo(compiled, catalog)
    compiled.seek(0)
    return Translations(compiled)


def language_of(request: Request) -> str:
    """The language that the person chose, otherwise the first of the browser's languages that the console has."""
    chosen = cookie(request.scope, COOKIE)
    return chosen if chosen in LANGUAGES else _accepted(_first(request.headers.get("accept-language", "")))


def _first(header: str) -> str:
    """The languages of an Accept-Language that are looked at."""
    return header if len(header) <= MOST_ACCEPTED else header[:MOST_ACCEPTED].rpartition(",")[0]


@lru_cache(256)  # asked several times for a page
def _accepted(header: str) -> str:
    return negotiate_locale(_wanted(header), list(LANGUAGES)) or next(iter(LANGUAGES))


def _wanted(header: str) -> list[str]:
    """The languages of an Accept-Language, the most wanted first."""
    wanted: dict[str, float] = {}
    for part in header.split(","):
        name, _, weight = part.replace(" ", "").partition(";q=")
        language = name.split("-")[0].lower()
        wanted[language] = max(wanted.get(language, 0.0), _weight(weight))
    return [language for language in sorted(wanted, key=lambda one: -wanted[one]) if language and wanted[language]]


def _weight(text: str) -> float:
    return float(text or 1) if re.fullmatch(r"([01](\.[0-9]{0,3})?)?", text) else 0.0
