"""What the demo asks for: pictures to paint anew, and the tiles of one large picture."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from workers.demo.errors import DemoFailed
from workers.demo.filters import STYLES
from workers.demo.handlers import open_picture
from workers.demo.samples import make_samples

IMAGE_TYPE, TILE_TYPE = 2, 3
IMAGES = 8
COLUMNS, ROWS, TILE_SIDE = 6, 4, 320
CANVAS = COLUMNS * TILE_SIDE, ROWS * TILE_SIDE
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


@dataclass(frozen=True, slots=True)
class Job:
    """One task to create, and what its output must look like."""

    task_type: int
    payload: dict[str, str | int]
    output: Path
    size: tuple[int, int]  # pixels

    @property
    def label(self) -> str:
        """What it is, in a few words."""
        if self.task_type == IMAGE_TYPE:
            return f"{Path(str(self.payload['input'])).name} as {self.payload['style']}"
        return f"tile {self.payload['x']},{self.payload['y']}"


def make_batch(folder: Path, images: Path | None) -> list[Job]:
    """All jobs of one demo, pictures and tiles in turn; outputs go to `folder`. Raises DemoFailed."""
    sources = zip(_sources(folder, images), cycle(STYLES), strict=False)
    pictures = [_image_job(number, path, style, folder) for number, (path, style) in enumerate(sources, start=1)]
    tiles = [_tile_job(column, row, folder) for row in range(ROWS) for column in range(COLUMNS)]
    share = len(tiles) // len(pictures)
    mixed = [job for at, picture in enumerate(pictures) for job in (picture, *tiles[at * share : (at + 1) * share])]
    return mixed + tiles[share * len(pictures) :]


def _sources(folder: Path, images: Path | None) -> list[Path]:
    """As many paths as there are picture jobs; a smaller folder's pictures come again in other styles."""
    if images is None:
        return make_samples(folder, IMAGES)
    if not images.is_dir():
        raise DemoFailed(f"--images: there is no folder {images}")
    found = sorted(path.resolve() for path in images.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise DemoFailed(f"--images: {images} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    return list(islice(cycle(found), IMAGES))


def _image_job(number: int, source: Path, style: str, folder: Path) -> Job:
    try:
        size = open_picture(source).size
    except ValueError as error:
        raise DemoFailed(f"--images: {error}") from None
    output = folder / f"picture-{number}-{style}.png"
    return Job(IMAGE_TYPE, {"input": str(source), "output": str(output), "style": style}, output, size)


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
