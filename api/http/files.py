"""Files that are sent to anybody: read and compressed once, and named by their contents, so that browsers keep them.

They are in memory: a caller that reads slowly holds no open file, and no thread.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from api.http.errors import NotFound

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".png": "image/png"}
KEEPS = "public, max-age=31536000, immutable"


class File(NamedTuple):
    """A file as it is sent."""

    plain: bytes
    compressed: bytes
    digest: str
    media_type: str


@cache
def read(path: Path) -> File:
    """The file at a path."""
    return packed(path.read_bytes(), TYPES[path.suffix])


def packed(plain: bytes, media_type: str) -> File:
    """A file with these contents."""
    return File(plain, gzip.compress(plain, 9, mtime=0), hashlib.sha256(plain).hexdigest()[:12], media_type)


class Folder:
    """Files of one folder, below one URL."""

    def __init__(self, url: str, paths: Iterable[Path]) -> None:
        self._url = url
        self._files = {path.name: read(path) for path in paths}

    def url_of(self, name: str) -> str:
        """The URL of a file."""
        return f"{self._url}/{name}?v={self._files[name].digest}"

    async def answer(self, request: Request) -> Response:
        """The file that the path names. Raises NotFound."""
        found = self._files.get(request.path_params["name"])
        if found is None:
            raise NotFound
        return answer(found, request)


def answer(file: File, request: Request) -> Response:
    """A file; browsers keep it if they asked for these very contents."""
    keeps = KEEPS if request.query_params.get("v") == file.digest else "no-cache"
    headers = {"Cache-Control": keeps, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.compressed, headers=headers | {"Content-Encoding": "gzip"}, media_type=file.media_type)
    return Response(file.plain, headers=headers, media_type=file.media_type)
