"""The contact sheet shows the images that it says it shows."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dali_pipes.batch import ViewSpec
from dali_pipes.loader import TrainLoader
from dali_pipes.preview import main
from dali_pipes.step_plan import StreamOrder
from shards.errors import UserError
from shards.pixels.sheet import HEAD_PX, MARGIN_PX, TITLE_PX
from shards.reader import ShardSet
from train import preview
from train.recipes import parse_run
from train.run_folder import start_run

pytestmark = pytest.mark.slow


def test_a_sheet_has_a_row_for_each_image_and_a_column_for_each_view(rgb_dir, rgb_set, tmp_path):
    out = tmp_path / "new" / "views.png"
    options = "--views.global-px 32 --views.local-px 16 --views.local-views 2 --images 4"
    main([str(rgb_dir), "--out", str(out), *options.split()])
    sheet = np.asarray(Image.open(out))
    assert sheet.shape[0] == 3 * (HEAD_PX + TITLE_PX + 4 * (96 + MARGIN_PX) + MARGIN_PX)
    images = rgb_set.read(np.arange(120))
    for row in range(4):
        top = HEAD_PX + TITLE_PX + row * (96 + MARGIN_PX)
        drawn = sheet[top : top + 96, MARGIN_PX : MARGIN_PX + 96]
        shown = drawn[::3, ::3]  # each pixel as a square of 3
        assert (drawn == np.kron(shown, np.ones((3, 3, 1), np.uint8))).all()
        assert (images == shown).all((1, 2, 3)).sum() == 1
    # The input image, two global, two local, one negative global and two negative local views.
    first_row = sheet[HEAD_PX + TITLE_PX + 8]
    filled = (first_row != 255).any(-1)
    columns = np.count_nonzero(np.diff(filled.astype(int)) == 1)
    assert columns >= 8


def test_no_images_are_refused(rgb_dir, tmp_path) -> None:
    with pytest.raises(UserError, match="images is 0"):
        main([str(rgb_dir), "--out", str(tmp_path / "x.png"), "--images", "0"])


@pytest.mark.parametrize(("side_px", "missing"), [(32, 0), (30, 1)])
def test_each_transformation_and_augmentation_has_its_column(
    rgb_dir, tmp_path, side_px, missing
) -> None:
    """Permutations that do not divide the side are left out (perm-16 of 30 px)."""
    out = tmp_path / "views.png"
    size = f"--views.global-px {side_px} --views.local-px 16 --views.local-views 1"
    main([str(rgb_dir), "--out", str(out), "--images", "3", *size.split()])
    sheet = np.asarray(Image.open(out))
    height = sheet.shape[0] // 3
    for number, columns in ((1, 1 + 10), (2, 1 + 8 - missing)):
        line = sheet[number * height + HEAD_PX + TITLE_PX + 3 * side_px // 2]
        filled = (line != 255).any(-1)
        assert np.count_nonzero(np.diff(filled.astype(int)) == 1) >= columns


def drawn_views(monkeypatch, *argv: str) -> tuple[ViewSpec, str, StreamOrder, ShardSet]:
    """Return the request for the loader of the first sheet."""
    asked = []

    class Spy(TrainLoader):
        def __init__(self, in_dist, aux, views, negatives, order, *others) -> None:
            asked.append((views, negatives, order, in_dist))
            super().__init__(in_dist, aux, views, negatives, order, *others)

    monkeypatch.setattr("dali_pipes.loader.TrainLoader", Spy)
    preview.main([*argv])
    return asked[0]


def test_a_recipe_and_a_run_show_the_views_that_they_train_on(
    rgb_dir, rgb_set, tmp_path, monkeypatch
) -> None:
    """`auto` has views of the images' own side; the loader's default would be 256 px."""
    out = tmp_path / "views.png"
    command = ["auto", "--in-dist", str(rgb_dir), "--seed", "3", "--views.local-views", "2"]
    command += ["--negatives", "rot90x4-in", "--compat.rot-any"]
    views, negatives, order, shards = drawn_views(monkeypatch, *command, "--out", str(out))
    side_px = rgb_set.manifest.height_px
    assert (views.global_px, views.local_px, views.local_views) == (side_px, side_px // 2, 2)
    assert (negatives, order.seed, shards.directory) == ("rot-any-in", 3, rgb_dir)
    zoom = 112 // side_px
    drawn = np.asarray(Image.open(out))[HEAD_PX + TITLE_PX :, MARGIN_PX:]
    pixels = drawn[: zoom * side_px : zoom, : zoom * side_px : zoom]
    assert (rgb_set.read(np.arange(len(rgb_set))) == pixels).all((1, 2, 3)).sum() == 1

    run = tmp_path / "run"
    run.mkdir()
    start_run(parse_run([*command, "--out", str(run)]))
    of_run = tmp_path / "run.png"
    assert drawn_views(monkeypatch, str(run), "--out", str(of_run))[:3] == (views, negatives, order)
    assert of_run.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("SHARDS --negatives rot --out x.png", "is not a run; .* auto --in-dist"),
        ("demo-cpu --in-dist SHARDS --out views", "out is views, expected the name of a .png"),
        ("dmo-cpu --in-dist SHARDS --out x.png", "is no recipe; .* did you mean demo-cpu"),
        ("demo-cpu --in-dist SHARDS --out x.png --views.global-px 29", "views.global_px is 29"),
    ],
)
def test_what_cannot_be_previewed(rgb_dir, words, told) -> None:
    with pytest.raises(UserError, match=told):
        preview.main(words.replace("SHARDS", str(rgb_dir)).split())
