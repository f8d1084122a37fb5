"""The texts of the console that are to be translated: those in templates and code."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po

from api.console import texts

CONSOLE = Path(texts.__file__).parent
OPTIONS = {"trimmed": "true", "newstyle_gettext": "true", "extensions": "jinja2.ext.do"}
KEYWORDS = {"_": None, "N_": None, "gettext": None, "ngettext": (1, 2), "counted": (1, 2)}

_NOT_SAID = (r"{#.*?#}", r"{% trans.*?{% endtrans %}", r"{%.*?%}", r"{{.*?}}", r"<(code|kbd|title)\b.*?</\1>")
"""Parts of a template that are translated already, or belong to no language."""


def found() -> Catalog:
    """Every text that is marked as one to be translated."""
    catalog = Catalog(charset="utf-8")
    for path in sorted(CONSOLE.rglob("*.py")) + sorted(CONSOLE.rglob("*.html")):
        method = "python" if path.suffix == ".py" else "jinja2.ext:babel_extract"
        options = OPTIONS if path.suffix == ".html" else {}
        for _, message, _, _ in extract(method, io.BytesIO(path.read_bytes()), KEYWORDS, (), options):
            catalog.add(message)
    return catalog


def translated(language: str) -> Catalog:
    """The catalog of a language's translations."""
    with (texts.FOLDER / f"{language}.po").open("rb") as file:
        return read_po(file, locale=language)


def unmarked() -> Iterator[str]:
    """Words and punctuation in templates that nobody can translate: `template: words`."""
    for path in sorted((CONSOLE / "templates").glob("*.html")):
        text = path.read_text()
        for marked in _NOT_SAID:
            text = re.sub(marked, "", text, flags=re.S)
        said = [*re.findall(r'(?:aria-label|title|placeholder|alt)="([^"]*)"', text), re.sub(r"<[^>]*>", " ", text)]
        for word in re.findall(r"[^\W\d_]{2,}|[,;:.](?=\s|$)", re.sub(r"&\w+;", " ", "\n".join(said))):
            yield f"{path.name}: {word}"


if __name__ == "__main__":
    old, new = translated("zh") if (texts.FOLDER / "zh.po").exists() else Catalog("zh"), found()
    fresh = Catalog(locale="zh", charset="utf-8", creation_date=datetime(2026, 1, 1, tzinfo=UTC))  # no merge conflict
    for message in sorted((one for one in new if one.id), key=lambda one: str(one.id)):
        known = old.get(message.id)
        fresh.add(message.id, known.string if known else "")
    with (texts.FOLDER / "zh.po").open("wb") as file:
        write_po(file, fresh, no_location=True, width=0)
