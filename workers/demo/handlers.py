"""The demo's work: the two functions that its nodes run, each on one core for a second or two."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from workers.demo import fields, fractal
from workers.demo.decoding import decode
from workers.demo.filters import STYLES, Report
from workers.demo.folder import Folder, Refused

MAX_TILE, MAX_IMAGE = 2048, 1_000_000  # pixels


def transform_image(input: dict[str, Any], report: Report) -> dict[str, Any]:
    """Task type 2: repaint the picture `input` in a `style`, as PNG at `output`; both in the demo's folder.

    Raises ValueError on bad input.
    """
    began = time.monotonic()
    source, target = fields.path(input, "input"), fields.path(input, "output")
    style = input.get("style")
    if not isinstance(style, str) or style not in STYLES:
        raise ValueError(f"style: one of {', '.join(STYLES)} is needed")
    with _output():
        Folder.of_environment().check(target)
    pixels = np.asarray(_picture(source), dtype=np.float32) / np.float32(255)
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
    with _output():
        Folder.of_environment().check(target)
    tile = fractal.Tile(x, y, width, height, image_width, image_height)
    return _deliver(fractal.render(tile, report), target, began, report)


def _picture(name: str) -> Image.Image:
    try:
        return decode(Folder.of_environment().read(name))
    except Refused:
        raise ValueError("input: there is no such file in the demo's folder") from None
    except ValueError as error:
        raise ValueError(f"input: {error}") from None


def _deliver(pixels: fractal.Bytes, target: str, began: float, report: Report) -> dict[str, Any]:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="PNG", compress_level=6)
    with _output():
        Folder.of_environment().write(target, encoded.getvalue())
    report(100)
    elapsed = round((time.monotonic() - began) * 1000)
    digest = hashlib.sha256(encoded.getvalue()).hexdigest()
    return {"resultImages": [target], "processingTime": elapsed, "sha256": digest}


@contextmanager
def _output() -> Iterator[None]:
    """Report a refusal of the folder as a fault of `output`."""
    try:
        yield
    except Refused:
        raise ValueError("output: there is no such place for a file in the demo's folder") from None
    except ValueError as error:
        raise ValueError(f"output: {error}") from None
