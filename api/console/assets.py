"""The stylesheet, the script and the icon."""

from __future__ import annotations

from pathlib import Path

from api.http.files import TYPES, Folder

FOLDER = Path(__file__).parent / "static"
_files = Folder("/console/static", (path for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES))
url_of, asset = _files.url_of, _files.answer
