"""A window of the Mandelbrot set, rendered tile by tile with smooth colours; every tile knows the whole picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

CENTRE = -0.743794, 0.131412  # in the valley of the sea horses
WIDTH = 0.0026  # of the whole picture, in the complex plane
MAX_ITERATIONS = 700
ESCAPE = 256.0  # |z|² of a point that is gone; large, for smooth colours
OVERSAMPLING = 4  # samples per pixel and axis
BAND = 16  # rows of pixels rendered at once: they fit in the cache, and progress is reported after each
STOPS = (
    (0.0, (6, 10, 48)),
    (0.16, (32, 107, 203)),
    (0.42, (237, 255, 255)),
    (0.64, (255, 170, 0)),
    (0.86, (48, 2, 20)),
)


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of a larger picture, in pixels."""

    x: int
    y: int
    width: int
    height: int
    image_width: int
    image_height: int


def render(tile: Tile, report: Callable[[int], None]) -> Bytes:
    """The pixels of a tile, height x width x RGB; the same for one tile as for a cut of a larger one."""
    bands = []
    for top in range(0, tile.height, BAND):
        bands.append(_band(tile, top, min(BAND, tile.height - top)))
        report(99 * (top + BAND) // (tile.height + BAND))
    return np.concatenate(bands)


def _band(tile: Tile, top: int, height: int) -> Bytes:
    step = WIDTH / tile.image_width / OVERSAMPLING
    columns = tile.x * OVERSAMPLING + np.arange(tile.width * OVERSAMPLING)
    rows = (tile.y + top) * OVERSAMPLING + np.arange(height * OVERSAMPLING)
    real = CENTRE[0] + (columns + 0.5 - tile.image_width * OVERSAMPLING / 2) * step
    imaginary = CENTRE[1] - (rows + 0.5 - tile.image_height * OVERSAMPLING / 2) * step
    grid_real, grid_imaginary = np.meshgrid(real, imaginary)
    colours = _colours(_escape_times(grid_real.ravel(), grid_imaginary.ravel()))
    samples = colours.reshape(height, OVERSAMPLING, tile.width, OVERSAMPLING, 3)
    pixels: Bytes = np.rint(samples.mean(axis=(1, 3))).astype(np.uint8)
    return pixels


def _escape_times(c_real: Floats, c_imaginary: Floats) -> Floats:
    """The fractional number of iterations until each point escapes; NaN for those that never do."""
    times = np.full(c_real.size, np.nan)
    alive = np.arange(c_real.size)
    z_real, z_imaginary = c_real.copy(), c_imaginary.copy()
    for iteration in range(1, MAX_ITERATIONS):
        square_real, square_imaginary = z_real * z_real, z_imaginary * z_imaginary
        size = square_real + square_imaginary
        gone = size > ESCAPE
        if gone.any():
            times[alive[gone]] = iteration - np.log2(np.log(size[gone]) / np.log(ESCAPE))
            stay = ~gone
            alive, c_real, c_imaginary = alive[stay], c_real[stay], c_imaginary[stay]
            z_real, z_imaginary = z_real[stay], z_imaginary[stay]
            square_real, square_imaginary = square_real[stay], square_imaginary[stay]
        if not alive.size:
            break
        z_imaginary = 2 * z_real * z_imaginary + c_imaginary
        z_real = square_real - square_imaginary + c_real
    return times


def _colours(times: Floats) -> Floats:
    """A wheel of colours over the logarithm of the time; black inside the set."""
    inside = np.isnan(times)
    phase = np.mod(np.log(np.where(inside, 1.0, np.maximum(times, 1.0))) * 0.9, 1.0)
    positions = [position for position, _ in STOPS] + [1.0]
    wheel = np.array([colour for _, colour in STOPS] + [STOPS[0][1]], dtype=np.float64)
    colours = np.stack([np.interp(phase, positions, wheel[:, channel]) for channel in range(3)], axis=-1)
    colours[inside] = 0.0
    return colours
