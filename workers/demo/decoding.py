"""Decoding of pictures from untrusted bytes: few formats, and never more memory than MAX_PIXELS need."""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS, MAX_PIXELS_JPEG = 25_000_000, 50_000_000  # of the file; at most some 400 MB while it is decoded
MAX_SIDE = 960  # pixels; larger pictures are made smaller first
MIN_SIDE = 16


def decode(content: bytes) -> Image.Image:
    """A picture upright, in RGB, at most MAX_SIDE pixels a side. Raises ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of sizes that we judge ourselves
            picture = _decoded(content)
    except UnidentifiedImageError:
        raise ValueError(f"not a picture of a known format ({', '.join(FORMATS)})") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: a bad PNG
        raise ValueError(f"cannot be read as a picture ({error})") from None
    if min(picture.size) < MIN_SIDE:
        raise ValueError(f"smaller than {MIN_SIDE} pixels a side")
    return picture


def _decoded(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content), formats=FORMATS) as file:
        limit = MAX_PIXELS_JPEG if file.format == "JPEG" else MAX_PIXELS
        if file.width * file.height > limit:
            raise ValueError(f"larger than {limit} pixels")
        file.draft("RGB", (2 * MAX_SIDE, 2 * MAX_SIDE))  # a JPEG is decoded no larger than it is needed
        ImageOps.exif_transpose(file, in_place=True)
        picture = file.convert("RGB")
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return picture
