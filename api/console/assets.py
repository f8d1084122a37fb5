"""The stylesheet, the script and the icon: read and compressed once, named by their contents, so browsers keep them."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from api.http.errors import NotFound

FOLDER = Path(__file__).parent / "static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
KEEPS = "public, max-age=31536000, immutable"


class Asset(NamedTuple):
    """A file as it is sent."""

    plain: bytes
    compressed: bytes
    digest: str
    media_type: str


@cache
def _all() -> dict[str, Asset]:
    return {path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES}


def _read(path: Path) -> Asset:
    plain = path.read_bytes()
    return Asset(plain, gzip.compress(plain, 9, mtime=0), hashlib.sha256(plain).hexdigest()[:12], TYPES[path.suffix])


def url_of(name: str) -> str:
    """The URL of a file."""
    return f"/console/static/{name}?v={_all()[name].digest}"


async def asset(request: Request) -> Response:
    """A file; browsers keep it if they asked for these very contents. Raises NotFound."""
    found = _all().get(request.path_params["name"])
    if found is None:
        raise NotFound
    keeps = KEEPS if request.query_params.get("v") == found.digest else "no-cache"
    headers = {"Cache-Control": keeps, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.compressed, headers=headers | {"Content-Encoding": "gzip"}, media_type=found.media_type)
    return Response(found.plain, headers=headers, media_type=found.media_type)
