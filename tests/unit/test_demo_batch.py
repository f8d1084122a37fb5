"""The demo's batch, its sample pictures, its checks and the one picture it leaves."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from workers.demo import batch
from workers.demo.batch import CANVAS, IMAGE_TYPE, TILE_SIDE, TILE_TYPE, Job
from workers.demo.check import problem
from workers.demo.errors import DemoFailed
from workers.demo.picture import assemble, compose
from workers.demo.samples import SIZE, make_samples


def test_samples_are_the_same_each_time(tmp_path: Path) -> None:
    first, second = make_samples(tmp_path, 2)
    again = tmp_path / "again"
    again.mkdir()
    assert make_samples(again, 1)[0].read_bytes() == first.read_bytes()
    assert first.read_bytes() != second.read_bytes()
    with Image.open(first) as picture:
        assert picture.size == SIZE


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    """Jobs of a demo with pictures of its own."""
    return batch.make_batch(tmp_path_factory.mktemp("demo"), None, print)


def test_a_batch_covers_the_canvas_once_and_no_output_twice(jobs: list[Job]) -> None:
    tiles = [job for job in jobs if job.task_type == TILE_TYPE]
    assert len(jobs) - len(tiles) == batch.IMAGES
    assert {(job.payload["x"], job.payload["y"]) for job in tiles} == {
        (x, y) for x in range(0, CANVAS[0], TILE_SIDE) for y in range(0, CANVAS[1], TILE_SIDE)
    }
    assert len({job.output for job in jobs}) == len(jobs) == batch.IMAGES + len(tiles)


def test_a_small_folder_is_used_again_and_again(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    Image.new("RGB", (64, 48)).save(folder / "mine.jpg")
    (folder / "notes.txt").write_text("not a picture")
    pictures = [job for job in batch.make_batch(tmp_path, folder, print) if job.task_type == IMAGE_TYPE]
    assert len({job.output for job in pictures}) == batch.IMAGES
    assert {job.payload["input"] for job in pictures} == {str(tmp_path / "originals" / "picture-01.jpg")}
    assert {job.size for job in pictures} == {(64, 48)}


def test_odd_files_are_left_out_and_named(tmp_path: Path) -> None:
    folder, said = tmp_path / "mine", list[str]()
    (folder / "folder.png").mkdir(parents=True)
    (folder / "text.jpg").write_text("not a picture")
    (folder / "broken.png").write_bytes(make_samples(tmp_path, 1)[0].read_bytes()[:4000])
    claim(folder / "huge.png", 30_000, 30_000)
    Image.new("L", (1, 1)).save(folder / "dot.png")
    Image.new("CMYK", (40, 30)).save(folder / "good [1].jpg")
    pictures = [job for job in batch.make_batch(tmp_path, folder, said.append) if job.task_type == IMAGE_TYPE]
    assert {Path(str(job.payload["input"])).name for job in pictures} == {"picture-01.jpg"}
    for name, why in {"folder.png": "", "text.jpg": "", "broken.png": "", "huge.png": "bomb", "dot.png": ""}.items():
        assert any(line.startswith("left out") and name in line and why in line for line in said), (name, said)


def claim(path: Path, width: int, height: int) -> None:
    """Write a small PNG whose head claims this size."""
    Image.new("1", (16, 16)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


def test_of_a_large_folder_the_first_pictures_are_taken_and_it_says_so(tmp_path: Path) -> None:
    folder, said = tmp_path / "mine", list[str]()
    folder.mkdir()
    for number in range(batch.IMAGES + 2):
        Image.new("RGB", (20, 20)).save(folder / f"{number:02}.png")
    jobs = [job for job in batch.make_batch(tmp_path, folder, said.append) if job.task_type == IMAGE_TYPE]
    assert [Path(str(job.payload["input"])).name for job in jobs] == [
        f"picture-{n:02}.png" for n in range(1, batch.IMAGES + 1)
    ]
    assert said == [f"{batch.IMAGES + 2} files in {folder}: the first {batch.IMAGES} pictures are taken"]


@pytest.mark.parametrize("name", [b"no text \xff.png", b"two\nlines.PNG", b"picture-01.png", b"a\x1b[2J.png"])
def test_a_picture_may_have_any_name(name: bytes, tmp_path: Path) -> None:
    folder, said = tmp_path / os.fsdecode(b"mine \xfe\n"), list[str]()
    folder.mkdir()
    Image.new("RGB", (20, 20)).save(folder / "z.png")
    (folder / "z.png").rename(folder / os.fsdecode(name))
    (folder / os.fsdecode(b"broken\n\xff.png")).touch()
    jobs = [job for job in batch.make_batch(tmp_path, folder, said.append) if job.task_type == IMAGE_TYPE]
    assert {Path(str(job.payload["input"])).name for job in jobs} == {"picture-01.png"}
    assert len(said) == 1
    assert all(line.isprintable() for line in [*said, *(job.label for job in jobs)])


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_folder_without_pictures_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DemoFailed, match="--images"):
        batch.make_batch(tmp_path, tmp_path / name, print)


def test_check_looks_at_the_file_itself(tmp_path: Path) -> None:
    job = Job(TILE_TYPE, {}, tmp_path / "tile.png", (4, 3))
    result = {"resultImages": [str(job.output)], "sha256": "?"}
    assert "cannot be read" in (problem(job, "COMPLETED", None, result) or "")
    Image.new("RGB", (4, 3)).save(job.output)
    assert "not the file" in (problem(job, "COMPLETED", None, result) or "")
    result["sha256"] = hashlib.sha256(job.output.read_bytes()).hexdigest()
    assert problem(job, "COMPLETED", None, result) is None
    assert problem(job, "FAILED", "broken", result) == "FAILED: broken"
    assert "4x3, not 5x5" in (problem(Job(TILE_TYPE, {}, job.output, (5, 5)), "COMPLETED", None, result) or "")
    assert "resultImages" in (problem(job, "COMPLETED", None, {}) or "")


def test_the_picture_is_put_together_from_its_tiles(jobs: list[Job]) -> None:
    tiles = [job for job in jobs if job.task_type == TILE_TYPE]
    for number, job in enumerate(tiles[:-1]):
        Image.new("RGB", job.size, (number, 200, 100)).save(job.output)
    whole = assemble(jobs)
    for number, job in enumerate(tiles[:-1]):
        assert whole.getpixel((int(job.payload["x"]) + 1, int(job.payload["y"]) + 1)) == (number, 200, 100)
    sheet = compose(jobs)
    assert sheet.width > CANVAS[0]
    assert sheet.height > CANVAS[1] + 400
