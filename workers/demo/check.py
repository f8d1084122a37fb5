"""Whether a task came out right: its record, its result, and the file itself."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from PIL import Image

from workers.demo.batch import Job


def problem(job: Job, status: str, error: str | None, result: dict[str, Any]) -> str | None:
    """The mistake in a few words, or None."""
    if status != "COMPLETED":
        return f"{status}: {error}" if error else status
    if result.get("resultImages") != [str(job.output)]:
        return f"resultImages is {result.get('resultImages')!r}"
    return _file_problem(job.output, job.size, result.get("sha256"))


def _file_problem(path: Path, size: tuple[int, int], digest: object) -> str | None:
    try:
        data = path.read_bytes()
        with Image.open(path) as picture:
            picture.load()
            found = picture.size
    except OSError as error:
        return f"{path.name} cannot be read: {error}"
    if hashlib.sha256(data).hexdigest() != digest:
        return f"{path.name} is not the file that was reported"
    return None if found == size else f"{path.name} is {found[0]}x{found[1]}, not {size[0]}x{size[1]}"
