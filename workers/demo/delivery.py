"""A finished picture on its way to its file: whole or not at all, with the digest that proves it."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from pathlib import Path

from PIL import Image


def deliver(picture: Image.Image, target: Path) -> str:
    """Write a picture as PNG and return the SHA-256 of the file.

    A reader never sees half a file, and two attempts that overlap cannot mix: each writes its own draft
    and renames it. Raises ValueError where the folder is missing.
    """
    if not target.parent.is_dir():
        raise ValueError(f"output: there is no folder {target.parent}")
    encoded = io.BytesIO()
    picture.save(encoded, format="PNG", compress_level=6)
    data = encoded.getvalue()
    _replace(target, data)
    return hashlib.sha256(data).hexdigest()


def _replace(target: Path, data: bytes) -> None:
    descriptor, draft = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except BaseException:
        os.unlink(draft)
        raise
