"""The picture styles: heavy on purpose, each one function from pixels to pixels (height x width x RGB, 0 to 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]
Report = Callable[[int], None]

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
INK, PAPER = np.array([0.09, 0.05, 0.30], np.float32), np.array([1.0, 0.82, 0.55], np.float32)


def oil(image: Pixels, report: Report, radius: int = 4, passes: int = 6) -> Pixels:
    """Kuwahara, repeated: each pixel takes the mean of the calmest of the four squares that it is a corner of."""
    for done in range(passes):
        image = _kuwahara(image, radius)
        report(95 * (done + 1) // passes)
    return _contrast(image, 1.15)


def sketch(image: Pixels, report: Report) -> Pixels:
    """Pencil on paper: edges of the smoothed light, over the dodged light itself."""
    light = _bilateral(_light(image), report, radius=9)
    dodged = np.minimum(1.0, light / np.maximum(_blur(light, 9), 0.02))
    down, right = np.gradient(_blur(light, 1))
    lines = np.clip(1.0 - 7.0 * np.hypot(down, right), 0.0, 1.0)
    pencil = (dodged**2 * lines * (0.55 + 0.45 * light)).astype(np.float32)
    return np.asarray(pencil[..., None] * np.array([1.0, 0.98, 0.93]), np.float32)


def duotone(image: Pixels, report: Report) -> Pixels:
    """Two inks over smoothed light with more local contrast."""
    light = _bilateral(_light(image), report, radius=9)
    light = np.clip(light + 0.9 * (light - _blur(light, 20)), 0.0, 1.0)
    tone = (light * light * (3.0 - 2.0 * light))[..., None]
    return np.asarray(INK + (PAPER - INK) * tone, np.float32)


def stained_glass(image: Pixels, report: Report, panes: int = 640) -> Pixels:
    """Voronoi panes around scattered seeds, each in its mean colour, with lead between them."""
    height, width = image.shape[:2]
    seeds = np.random.default_rng(panes).random((panes, 2)).astype(np.float32) * np.array([height, width], np.float32)
    owner, margin = _nearest(height, width, seeds, report)
    counts = np.maximum(np.bincount(owner.ravel(), minlength=panes), 1)
    colours = [np.bincount(owner.ravel(), image[..., channel].ravel(), panes) / counts for channel in range(3)]
    glass = np.stack(colours, axis=-1).astype(np.float32)[owner]
    lead = np.clip((margin - 1.0) / 2.5, 0.0, 1.0)[..., None]
    return np.asarray(_contrast(0.75 * glass + 0.25 * image, 1.3) * lead, np.float32)


STYLES: Mapping[str, Callable[[Pixels, Report], Pixels]] = MappingProxyType(
    {"oil": oil, "sketch": sketch, "duotone": duotone, "stained-glass": stained_glass}
)


def _light(image: Pixels) -> Pixels:
    return np.asarray(image @ LUMA, np.float32)


def _contrast(image: Pixels, factor: float) -> Pixels:
    return np.asarray(np.clip(0.5 + (image - 0.5) * np.float32(factor), 0.0, 1.0), np.float32)


def _box_means(field: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.float64]:
    """The means of all squares of this side that fit, by their first corner."""
    sums = np.zeros((field.shape[0] + 1, field.shape[1] + 1, *field.shape[2:]))
    sums[1:, 1:] = field.cumsum(axis=0).cumsum(axis=1)
    total = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return np.asarray(total / (side * side))


def _blur(light: Pixels, radius: int) -> Pixels:
    """Two box blurs, which is close to a Gaussian one."""
    for _ in range(2):
        padded = np.pad(light, radius, mode="edge").astype(np.float64)
        light = _box_means(padded, 2 * radius + 1).astype(np.float32)
    return light


def _kuwahara(image: Pixels, radius: int) -> Pixels:
    height, width = image.shape[:2]
    padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="edge").astype(np.float64)
    light = padded @ LUMA
    means, light_means = _box_means(padded, radius + 1), _box_means(light, radius + 1)
    unrest = _box_means(light * light, radius + 1) - light_means * light_means
    best, least = np.zeros(image.shape), np.full((height, width), np.inf)
    for top in (0, radius):
        for left in (0, radius):
            square = slice(top, top + height), slice(left, left + width)
            calmer = unrest[square] < least
            best[calmer] = means[square][calmer]
            least[calmer] = unrest[square][calmer]
    return best.astype(np.float32)


def _bilateral(light: Pixels, report: Report, radius: int, tolerance: float = 0.11) -> Pixels:
    """Smooth similar pixels and keep edges: neighbours weigh by how near they are, in place and in light."""
    height, width = light.shape
    padded = np.pad(light, radius, mode="reflect")
    total, weights = np.zeros_like(light), np.zeros_like(light)
    for down in range(2 * radius + 1):
        for right in range(2 * radius + 1):
            near = padded[down : down + height, right : right + width]
            apart = ((down - radius) ** 2 + (right - radius) ** 2) / (2.0 * (radius / 2) ** 2)
            weight = np.exp(-(((near - light) / np.float32(tolerance)) ** 2) / 2 - np.float32(apart))
            total += weight * near
            weights += weight
        report(90 * (down + 1) // (2 * radius + 1))
    return np.asarray(total / weights, np.float32)


def _nearest(height: int, width: int, seeds: Pixels, report: Report) -> tuple[npt.NDArray[np.intp], Pixels]:
    """The nearest seed of each pixel, and how much farther the second nearest is, in pixels."""
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None, :]
    first, second = (np.full((height, width), np.inf, np.float32) for _ in range(2))
    owner = np.zeros((height, width), np.intp)
    for number, (row, column) in enumerate(seeds):
        distance = (rows - row) ** 2 + (columns - column) ** 2
        second = np.minimum(second, np.maximum(first, distance))
        np.putmask(owner, distance < first, number)
        first = np.minimum(first, distance)
        report(90 * (number + 1) // len(seeds))
    return owner, (np.sqrt(second) - np.sqrt(first)).astype(np.float32)
