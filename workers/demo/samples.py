"""Generated sample pictures, for a demo without a folder of pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

SIZE = 960, 640
SKIES = (
    ((24, 32, 84), (250, 142, 92)),
    ((84, 158, 220), (238, 244, 232)),
    ((12, 10, 40), (96, 52, 130)),
    ((250, 190, 120), (190, 80, 90)),
)


def make_samples(folder: Path, count: int) -> list[Path]:
    """Write `count` landscapes, the same ones each time."""
    paths = [folder / f"landscape-{number + 1:02}.png" for number in range(count)]
    for number, path in enumerate(paths):
        landscape(number).save(path)
    return paths


def landscape(seed: int) -> Image.Image:
    """Hills behind hills under a sky with a sun or moon, with some grain."""
    rng = np.random.default_rng(seed)
    picture = _sky(*SKIES[seed % len(SKIES)])
    _sun(picture, rng)
    layers = 5
    for layer in range(layers):
        _ridge(picture, rng, layer, layers)
    _trees(picture, rng)
    grain = rng.normal(0.0, 5.0, (SIZE[1], SIZE[0], 1))
    return Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))


def _sky(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Image.Image:
    share = np.linspace(0.0, 1.0, SIZE[1])[:, None, None]
    rows = np.array(top) * (1 - share) + np.array(bottom) * share
    return Image.fromarray(np.broadcast_to(rows, (SIZE[1], SIZE[0], 3)).astype(np.uint8))


def _sun(picture: Image.Image, rng: np.random.Generator) -> None:
    x, y = rng.uniform(0.15, 0.85) * SIZE[0], rng.uniform(0.12, 0.4) * SIZE[1]
    radius = rng.uniform(34, 70)
    draw = ImageDraw.Draw(picture, "RGBA")
    for ring in range(14, -1, -1):
        size = radius + ring * 9
        draw.ellipse((x - size, y - size, x + size, y + size), fill=(255, 236, 190, 235 if ring == 0 else 14))


def _ridge(picture: Image.Image, rng: np.random.Generator, layer: int, layers: int) -> None:
    depth = (layer + 1) / layers
    line = SIZE[1] * (0.38 + 0.5 * depth) - _noise(rng, SIZE[0]) * SIZE[1] * (0.24 - 0.12 * depth)
    sky = np.array(picture.getpixel((4, 4)), dtype=np.float64)
    colour = sky * (1 - depth) + rng.uniform((10, 40, 40), (50, 90, 60)) * depth
    outline = [(0, SIZE[1]), *((x, float(y)) for x, y in enumerate(line)), (SIZE[0], SIZE[1])]
    ImageDraw.Draw(picture).polygon(outline, fill=tuple(int(part) for part in colour))


def _noise(rng: np.random.Generator, length: int) -> npt.NDArray[np.float64]:
    """A rough line between about -1 and 1: octaves of interpolated noise."""
    line = np.zeros(length)
    for octave in range(1, 8):
        knots = 2**octave + 2
        heights = rng.uniform(-1.0, 1.0, knots)
        line += np.interp(np.linspace(0, knots - 1, length), np.arange(knots), heights) / 1.8**octave
    return line


def _trees(picture: Image.Image, rng: np.random.Generator) -> None:
    draw = ImageDraw.Draw(picture)
    for _ in range(46):
        x, foot = rng.uniform(0, SIZE[0]), rng.uniform(0.88, 1.02) * SIZE[1]
        height = rng.uniform(40, 110)
        colour = tuple(int(part) for part in rng.uniform((4, 18, 14), (26, 60, 34)))
        for level in range(4):
            top, half = foot - height * (0.4 + 0.2 * level), height * (0.26 - 0.05 * level)
            draw.polygon(
                [(x, top - height * 0.2), (x - half, top + height * 0.15), (x + half, top + height * 0.15)], fill=colour
            )


if __name__ == "__main__":
    landscape(0).save(sys.argv[1])
