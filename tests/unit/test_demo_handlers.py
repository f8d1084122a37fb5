"""The demo's handlers: real pictures, deterministic, delivered whole, and clear about bad input."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workers.demo import fractal, handlers
from workers.demo.filters import STYLES
from workers.demo.samples import landscape


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    landscape(1).resize((120, 80)).save(path)
    return path


@pytest.mark.parametrize("style", STYLES)
def test_transform_image_paints_a_picture_of_the_same_size(style: str, picture: Path, tmp_path: Path) -> None:
    target, seen = tmp_path / "out.png", list[int]()
    result = handlers.transform_image({"input": str(picture), "output": str(target), "style": style}, seen.append)
    assert result["resultImages"] == [str(target)]
    assert result["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert result["processingTime"] >= 0
    assert seen == sorted(seen)
    assert seen[-1] == 100
    with Image.open(target) as after, Image.open(picture) as before:
        assert after.size == before.size
        assert after.tobytes() != before.tobytes()


def test_transform_image_gives_the_same_bytes_again(picture: Path, tmp_path: Path) -> None:
    digests = {
        handlers.transform_image(
            {"input": str(picture), "output": str(tmp_path / name), "style": "stained-glass"}, lambda percent: None
        )["sha256"]
        for name in ("first.png", "second.png")
    }
    assert len(digests) == 1


def test_nothing_but_the_output_is_left(picture: Path, tmp_path: Path) -> None:
    handlers.transform_image(
        {"input": str(picture), "output": str(tmp_path / "out.png"), "style": "duotone"}, lambda percent: None
    )
    assert {path.name for path in tmp_path.iterdir()} == {"picture.png", "out.png"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"style": "fresco"}, "style: one of oil"),
        ({"style": ["oil"]}, "style"),
        ({"input": ""}, "input: a path"),
        ({"input": "/nowhere.png"}, "there is no file"),
        ({"input": __file__}, "cannot be read as a picture"),
        ({"output": 7}, "output: a path"),
        ({"output": "/nowhere/out.png"}, "there is no folder"),
    ],
)
def test_transform_image_refuses(change: dict[str, Any], message: str, picture: Path, tmp_path: Path) -> None:
    good = {"input": str(picture), "output": str(tmp_path / "out.png"), "style": "duotone"}
    with pytest.raises(ValueError, match=message):
        handlers.transform_image(good | change, lambda percent: None)


def test_render_tile_is_a_cut_of_the_whole(tmp_path: Path) -> None:
    where = {"x": 24, "y": 16, "width": 24, "height": 16, "imageWidth": 72, "imageHeight": 48}
    target, seen = tmp_path / "tile.png", list[int]()
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
        ({"height": 0}, "height"),
        ({"y": True}, "y"),
        ({"imageWidth": "72"}, "imageWidth"),
        ({"output": None}, "output"),
    ],
)
def test_render_tile_refuses(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    good = {"x": 24, "y": 16, "width": 24, "height": 16, "imageWidth": 72, "imageHeight": 48}
    with pytest.raises(ValueError, match=message):
        handlers.render_tile({**good, "output": str(tmp_path / "t.png")} | change, lambda percent: None)
