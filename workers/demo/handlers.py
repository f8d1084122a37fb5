"""The demo's work: the two functions that its nodes run, each on one core for a second or two."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from workers.demo import fields, fractal
from workers.demo.delivery import deliver
from workers.demo.filters import STYLES, Report

MAX_SIDE = 960  # pixels; larger pictures are made smaller first
MIN_SIDE = 16
MAX_TILE, MAX_IMAGE = 4096, 1_000_000  # pixels


def transform_image(input: dict[str, Any], report: Report) -> dict[str, Any]:
    """Task type 2: paint the picture `input` anew in a `style`, as PNG at `output`. Raises ValueError on bad input."""
    began = time.monotonic()
    source, target = fields.path(input, "input"), fields.path(input, "output")
    style = input.get("style")
    if not isinstance(style, str) or style not in STYLES:
        raise ValueError(f"style: one of {', '.join(STYLES)} is needed, not {style!r}")
    pixels = np.asarray(open_picture(source), dtype=np.float32) / np.float32(255)
    painted = np.rint(np.clip(STYLES[style](pixels, report), 0.0, 1.0) * 255).astype(np.uint8)
    return _deliver(painted, target, began, report)


def render_tile(input: dict[str, Any], report: Report) -> dict[str, Any]:
    """Task type 3: one tile of the large picture of `fractal`, as PNG at `output`. Raises ValueError on bad input."""
    began = time.monotonic()
    target = fields.path(input, "output")
    image_width = fields.whole(input, "imageWidth", 1, MAX_IMAGE)
    image_height = fields.whole(input, "imageHeight", 1, MAX_IMAGE)
    x, y = fields.whole(input, "x", 0, image_width - 1), fields.whole(input, "y", 0, image_height - 1)
    width = fields.whole(input, "width", 1, min(MAX_TILE, image_width - x))
    height = fields.whole(input, "height", 1, min(MAX_TILE, image_height - y))
    tile = fractal.Tile(x, y, width, height, image_width, image_height)
    return _deliver(fractal.render(tile, report), target, began, report)


def open_picture(path: Path) -> Image.Image:
    """A picture upright, in RGB, at most MAX_SIDE pixels a side. Raises ValueError."""
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGB")
    except FileNotFoundError:
        raise ValueError(f"input: there is no file {path}") from None
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:  # Syntax: a bad PNG
        raise ValueError(f"input: {path} cannot be read as a picture ({error})") from None
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    if min(picture.size) < MIN_SIDE:
        raise ValueError(f"input: {path} is smaller than {MIN_SIDE} pixels a side")
    return picture


def _deliver(pixels: fractal.Bytes, target: Path, began: float, report: Report) -> dict[str, Any]:
    digest = deliver(Image.fromarray(pixels), target)
    report(100)
    elapsed = round((time.monotonic() - began) * 1000)
    return {"resultImages": [str(target)], "processingTime": elapsed, "sha256": digest}
