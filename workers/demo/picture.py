"""One picture of everything: the large one assembled from its tiles, below it each painting next to its original."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from workers.demo.batch import CANVAS, IMAGE_TYPE, TILE_TYPE, Job
from workers.demo.decoding import decode

MARGIN, CAPTION = 16, 22  # pixels
PAIRS_A_ROW = 2
INK, GROUND = (225, 225, 230), (22, 22, 28)


def assemble(jobs: Sequence[Job]) -> Image.Image:
    """The tiles in one picture, each where its payload puts it. A missing or broken tile stays dark."""
    canvas = Image.new("RGB", CANVAS, GROUND)
    for job in jobs:
        if job.task_type == TILE_TYPE and (tile := _read(job.output)):
            canvas.paste(tile, (int(job.payload["x"]), int(job.payload["y"])))
    return canvas


def compose(jobs: Sequence[Job]) -> Image.Image:
    """The assembled picture above the contact sheet."""
    paintings = [job for job in jobs if job.task_type == IMAGE_TYPE]
    cell = (CANVAS[0] - MARGIN * (2 * PAIRS_A_ROW - 1)) // (2 * PAIRS_A_ROW)
    row_height = cell * 2 // 3 + CAPTION + MARGIN
    rows = -(-len(paintings) // PAIRS_A_ROW)
    sheet = Image.new("RGB", (CANVAS[0] + 2 * MARGIN, CANVAS[1] + 2 * MARGIN + rows * row_height), GROUND)
    sheet.paste(assemble(jobs), (MARGIN, MARGIN))
    for number, job in enumerate(paintings):
        left = MARGIN + number % PAIRS_A_ROW * 2 * (cell + MARGIN)
        top = CANVAS[1] + 2 * MARGIN + number // PAIRS_A_ROW * row_height
        _pair(sheet, job, (left, top), cell)
    return sheet


def _pair(sheet: Image.Image, job: Job, at: tuple[int, int], cell: int) -> None:
    left, top = at
    size = cell, cell * 2 // 3
    before, after = decode(Path(str(job.payload["input"])).read_bytes()), _read(job.output)
    sheet.paste(ImageOps.pad(before, size, color=GROUND), (left, top))
    if after:
        sheet.paste(ImageOps.pad(after, size, color=GROUND), (left + cell + MARGIN, top))
    ImageDraw.Draw(sheet).text((left, top + size[1] + 4), job.label, fill=INK)


def _read(path: Path) -> Image.Image | None:
    try:
        with Image.open(path) as file:
            return file.convert("RGB")
    except OSError:
        return None
