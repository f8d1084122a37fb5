"""The demo's handlers: real pictures, deterministic, delivered whole, and clear about bad input."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workers.demo import decoding, fractal, handlers
from workers.demo.filters import STYLES
from workers.demo.folder import LEAST, VARIABLE
from workers.demo.samples import landscape


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one that the demo's work may use."""
    folder = tmp_path / "demo"
    folder.mkdir()
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


@pytest.fixture
def picture(folder: Path) -> Path:
    path = folder / "picture.png"
    landscape(1).resize((120, 80)).save(path)
    return path


@pytest.mark.parametrize("style", STYLES)
def test_transform_image_paints_a_picture_of_the_same_size(style: str, picture: Path, folder: Path) -> None:
    target, seen = folder / "out.png", list[int]()
    result = handlers.transform_image({"input": str(picture), "output": str(target), "style": style}, seen.append)
    assert result["resultImages"] == [str(target)]
    assert result["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert result["processingTime"] >= 0
    assert seen == sorted(seen)
    assert seen[-1] == 100
    with Image.open(target) as after, Image.open(picture) as before:
        assert after.size == before.size
        assert after.tobytes() != before.tobytes()


def test_transform_image_gives_the_same_bytes_again(picture: Path, folder: Path) -> None:
    digests = {
        handlers.transform_image(
            {"input": str(picture), "output": str(folder / name), "style": "stained-glass"}, lambda percent: None
        )["sha256"]
        for name in ("first.png", "second.png")
    }
    assert len(digests) == 1


def test_nothing_but_the_output_is_left(picture: Path, folder: Path) -> None:
    handlers.transform_image({"input": str(picture), "output": "out.png", "style": "duotone"}, lambda percent: None)
    assert {path.name for path in folder.iterdir()} == {"picture.png", "out.png"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"style": "fresco"}, "style: one of oil"),
        ({"style": ["oil"]}, "style"),
        ({"input": ""}, "input: a path"),
        ({"input": "nowhere.png"}, "input: there is no such file"),
        ({"output": 7}, "output: a path"),
        ({"output": "nowhere/out.png"}, "output: there is no such place"),
    ],
)
def test_transform_image_refuses(change: dict[str, Any], message: str, picture: Path) -> None:
    good = {"input": str(picture), "output": "out.png", "style": "duotone"}
    with pytest.raises(ValueError, match=message):
        handlers.transform_image(good | change, lambda percent: None)


def test_render_tile_is_a_cut_of_the_whole(folder: Path) -> None:
    where = {"x": 24, "y": 16, "width": 24, "height": 16, "imageWidth": 72, "imageHeight": 48}
    target, seen = folder / "tile.png", list[int]()
    result = handlers.render_tile({**where, "output": str(target)}, seen.append)
    whole = fractal.render(fractal.Tile(0, 0, 72, 48, 72, 48), lambda percent: None)
    with Image.open(target) as tile:
        assert np.array_equal(np.asarray(tile), whole[16:32, 24:48])
    assert result["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert len(np.unique(whole.reshape(-1, 3), axis=0)) > 100
    assert seen[-1] == 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": 72}, "x: an integer from 0 to 71"),
        ({"width": 60}, "width: an integer from 1 to 48"),
        ({"imageWidth": 9999, "width": 9000}, "width: an integer from 1 to 2048"),
        ({"height": 0}, "height"),
        ({"y": True}, "y"),
        ({"imageWidth": "72"}, "imageWidth"),
        ({"output": None}, "output"),
    ],
)
def test_render_tile_refuses(change: dict[str, Any], message: str) -> None:
    good = {"x": 24, "y": 16, "width": 24, "height": 16, "imageWidth": 72, "imageHeight": 48}
    with pytest.raises(ValueError, match=message):
        handlers.render_tile({**good, "output": "t.png"} | change, lambda percent: None)


def painted(input: str, output: str = "out.png") -> str:
    """The end of a picture task: the name of its output, or the reason why there is none."""
    try:
        result = handlers.transform_image({"input": input, "output": output, "style": "duotone"}, lambda percent: None)
    except ValueError as error:
        return str(error)
    return str(result["resultImages"][0])


def test_names_are_relative_to_the_folder_or_absolute_in_it(picture: Path, folder: Path) -> None:
    (folder / "sub").mkdir()
    assert painted("picture.png", "./sub/out.png") == "./sub/out.png"
    assert painted(str(folder / "sub" / "out.png"), str(folder / "again.png")) == str(folder / "again.png")
    assert (folder / "again.png").stat().st_mode & 0o777 == 0o644 & ~umask()


def umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


MISSING = "input: there is no such file in the demo's folder"


@pytest.mark.parametrize(
    "name",
    [
        "{outside}/secret.png",  # there
        "{outside}/nothing.png",  # not there
        "../secret.png",
        "{demo}/../secret.png",
        "{demo}",
        ".",
        "/",
        "/proc/self/mem",
        "/dev/stdin",
        "link.png",
        "away/secret.png",
        "{demo}/away/secret.png",
        "pipe",
        "sub",
        "picture.png/",
        "picture.png/x",
        "x" * 5000,
        "a\0b",
        "\ud800",
    ],
)
def test_all_that_is_outside_or_no_file_is_not_there(name: str, picture: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture.read_bytes())
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "away").symlink_to(tmp_path)
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    found = painted(name.format(outside=tmp_path, demo=folder))
    assert found == ("out.png" if name == "picture.png/" else MISSING)


@pytest.mark.parametrize(
    "name", ["{outside}/secret.png", "../secret.png", "away/secret.png", "away/new.png", "sub", ".", "a\0b", "x" * 5000]
)
def test_nothing_is_written_outside(name: str, picture: Path, folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_text("secret")
    (folder / "away").symlink_to(tmp_path)
    (folder / "sub").mkdir()
    found = painted("picture.png", name.format(outside=tmp_path, demo=folder))
    assert found == "output: there is no such place for a file in the demo's folder"
    assert (secret.read_text(), (tmp_path / "new.png").exists()) == ("secret", False)
    assert {path.name for path in folder.iterdir()} == {"picture.png", "away", "sub"}


def test_a_link_or_a_pipe_is_replaced_and_not_followed(picture: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(folder / "pipe")
    for name in ("link.png", "pipe"):
        assert painted("picture.png", name) == name
        assert not (folder / name).is_symlink()
        assert (folder / name).is_file()
    assert not (tmp_path / "secret.png").exists()


def test_what_is_no_picture_says_nothing_of_its_content(folder: Path) -> None:
    (folder / "text.png").write_text("the secret")
    assert painted("text.png") == "input: not a picture of a known format (PNG, JPEG, WEBP, BMP, TIFF, GIF)"


def test_a_bomb_is_refused_before_it_is_decoded(folder: Path) -> None:
    Image.new("1", (5_001, 5_001)).save(folder / "bomb.png")
    assert painted("bomb.png") == f"input: larger than {decoding.MAX_PIXELS} pixels"
    Image.new("L", (7_001, 7_001)).save(folder / "camera.jpg")
    assert painted("camera.jpg") == "out.png"
    head = struct.pack(">HH", 7_001, 7_001), struct.pack(">HH", 7_001, 7_200)
    (folder / "bomb.jpg").write_bytes((folder / "camera.jpg").read_bytes().replace(*head, 1))
    assert painted("bomb.jpg") == f"input: larger than {decoding.MAX_PIXELS_JPEG} pixels"


def test_large_files_and_a_full_folder_are_refused(
    picture: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = picture.stat().st_size
    monkeypatch.setattr("workers.demo.folder.MAX_INPUT", size - 1)
    assert painted("picture.png") == f"input: larger than {size - 1} bytes"
    monkeypatch.setattr("workers.demo.folder.MAX_INPUT", size)
    assert painted("picture.png") == "out.png"
    monkeypatch.setattr("workers.demo.folder.MAX_TOTAL", size)
    assert painted("picture.png", "more.png") == f"output: the demo's folder is full ({size} bytes)"


def test_a_small_file_counts_for_its_room(picture: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        (folder / f"{number}.png").touch()
    monkeypatch.setattr("workers.demo.folder.MAX_TOTAL", 20 * LEAST)
    assert "full" in painted("picture.png")


@pytest.mark.parametrize("output", ["../out.png", "missing/out.png", "folder"])
def test_a_bad_output_is_refused_before_anything_is_painted(
    output: str, picture: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "folder").mkdir()
    monkeypatch.setattr(handlers, "decode", None)
    monkeypatch.setattr(fractal, "render", None)
    expected = "output: there is no such place for a file in the demo's folder"
    assert painted("picture.png", output) == expected
    tile = {"x": 0, "y": 0, "width": 1, "height": 1, "imageWidth": 1, "imageHeight": 1, "output": output}
    with pytest.raises(ValueError, match=expected):
        handlers.render_tile(tile, lambda percent: None)
