"""The demo's tasks: pictures to repaint, and the tiles of one large picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path

from workers.demo.decoding import decode
from workers.demo.errors import DemoFailed
from workers.demo.filters import STYLES
from workers.demo.folder import MAX_INPUT
from workers.demo.samples import make_samples

IMAGE_TYPE, TILE_TYPE = 2, 3
IMAGES = 8
COLUMNS, ROWS, TILE_SIDE = 6, 4, 320
CANVAS = COLUMNS * TILE_SIDE, ROWS * TILE_SIDE
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


@dataclass(frozen=True, slots=True)
class Job:
    """One task to create, and the expected form of its output."""

    task_type: int
    payload: dict[str, str | int]
    output: Path
    size: tuple[int, int]  # pixels

    @property
    def label(self) -> str:
        """A short name of the task."""
        if self.task_type == IMAGE_TYPE:
            return f"{Path(str(self.payload['input'])).name} as {self.payload['style']}"
        return f"tile {self.payload['x']},{self.payload['y']}"


def make_batch(folder: Path, images: Path | None, say: Callable[[str], None]) -> list[Job]:
    """All jobs of one demo, pictures and tiles in turn; all their files are in `folder`. Raises DemoFailed.

    The first pictures of `images`, by name, are copied there. `say` reports which files cannot be used.
    """
    sources = zip(_sources(folder, images, say), cycle(STYLES), strict=False)
    pictures = [_image_job(number, path, style, folder) for number, (path, style) in enumerate(sources, start=1)]
    tiles = [_tile_job(column, row, folder) for row in range(ROWS) for column in range(COLUMNS)]
    share = len(tiles) // len(pictures)
    mixed = [job for at, picture in enumerate(pictures) for job in (picture, *tiles[at * share : (at + 1) * share])]
    return mixed + tiles[share * len(pictures) :]


def _sources(folder: Path, images: Path | None, say: Callable[[str], None]) -> list[Path]:
    """A path for each picture job. A smaller folder's pictures repeat in other styles."""
    if images is None:
        return make_samples(folder, IMAGES)
    if not images.is_dir():
        raise DemoFailed(f"--images: there is no folder {_shown(images)}")
    named = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES)
    found = list(islice(_copied(named, folder / "originals", say), IMAGES))
    if not found:
        raise DemoFailed(
            f"--images: {_shown(images)} holds no pictures that can be used ({', '.join(sorted(SUFFIXES))})"
        )
    if len(named) > IMAGES:
        say(f"{len(named)} files in {_shown(images)}: the first {len(found)} pictures are taken")
    return list(islice(cycle(found), IMAGES))


def _copied(paths: Iterable[Path], folder: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """Copies of those files that are pictures: the nodes read and write only in the demo's folder.

    The copies have names of their own, since a file's name may be no text, or have several lines.
    """
    folder.mkdir()
    numbers = count(1)
    for path in paths:
        try:
            content = _read(path)
            decode(content)
        except (ValueError, OSError) as error:
            say(f"left out: {_shown(path)}: {error}")
            continue
        copy = folder / f"picture-{next(numbers):02}{path.suffix.lower()}"
        copy.write_bytes(content)
        yield copy


def _shown(path: Path) -> str:
    """A file's name in one line of text."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError("not a file")
    if path.stat().st_size > MAX_INPUT:
        raise ValueError(f"larger than {MAX_INPUT} bytes")
    return path.read_bytes()


def _image_job(number: int, source: Path, style: str, folder: Path) -> Job:
    output = folder / f"picture-{number}-{style}.png"
    payload: dict[str, str | int] = {"input": str(source), "output": str(output), "style": style}
    return Job(IMAGE_TYPE, payload, output, decode(source.read_bytes()).size)


def _tile_job(column: int, row: int, folder: Path) -> Job:
    output = folder / f"tile-{row}-{column}.png"
    where: dict[str, str | int] = {
        "x": column * TILE_SIDE,
        "y": row * TILE_SIDE,
        "width": TILE_SIDE,
        "height": TILE_SIDE,
        "imageWidth": CANVAS[0],
        "imageHeight": CANVAS[1],
        "output": str(output),
    }
    return Job(TILE_TYPE, where, output, (TILE_SIDE, TILE_SIDE))
