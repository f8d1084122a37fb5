"""Files that hold a secret. They appear whole, only we may read them, and no draft with the secret stays behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def create(path: Path, content: str) -> bool:
    """Write a new file. Returns False if there is one already. Raises OSError."""
    try:
        _write(path, content, os.link)
    except FileExistsError:
        return False
    return True


def replace(path: Path, content: str) -> None:
    """Write the file, in place of the one that may be there. Raises OSError."""
    _write(path, content, os.replace)


def read(path: Path) -> str:
    """The secret, without white space around it; empty if there is no such file. Raises OSError."""
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""


def _write(path: Path, content: str, put: Callable[[str, Path], None]) -> None:
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(content + "\n")
        put(draft, path)
    finally:
        Path(draft).unlink(missing_ok=True)
