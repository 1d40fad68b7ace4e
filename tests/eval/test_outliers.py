"""Spoiled sets of images: what they depend on, what is left out, and their contact sheet."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from eval.outliers.contact_sheet import contact_sheet
from eval.outliers.families import FAMILIES
from eval.outliers.spoil import families_for, spoiled
from shards.pixels.sheet import draw_sheet
from tests.support.image_sets import photographs
from tests.support.paths import ROOT

SHAPES = [(32, 32, 3), (32, 32, 1), (8, 8, 3), (8, 8, 1), (13, 8, 3), (8, 21, 1)]
FIRST_BYTES = (
    "import numpy as np\n"
    "from eval.outliers.spoil import spoiled\n"
    "image = np.arange(300, dtype=np.uint8).reshape(1, 10, 10, 3)\n"
    "print(spoiled(image, 'noise', 4, image).images.tobytes().hex())"
)


def pictures(count: int, height: int, width: int, channels: int) -> np.ndarray:
    return photographs(count, max(height, width), channels)[:, :height, :width]


def test_gray_images_have_no_families_of_colour() -> None:
    assert families_for(3) == list(FAMILIES) and len(FAMILIES) == 16
    assert {*families_for(3)} - {*families_for(1)} == {"channels", "hue"}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_family_spoils_most_images_of_any_shape(shape) -> None:
    images = pictures(30, *shape)
    for family in families_for(shape[2]):
        before = images.copy()
        found = spoiled(images, family, 1, images)
        np.testing.assert_array_equal(images, before)
        assert found.images.dtype == np.uint8 and found.ids.dtype == np.int64
        assert found.images.shape == (len(found.ids), *shape)
        assert (np.diff(found.ids) > 0).all()
        changes = np.abs(found.images.astype(float) - images[found.ids])
        assert ((changes.mean((1, 2, 3)) >= 1) | (changes.max((1, 2, 3)) >= 32)).all()
        # The least blur of 8 px has a standard deviation of a quarter of a pixel.
        assert len(found.ids) >= (9 if family in ("scratch", "blot", "blur") else 25), family


@pytest.mark.parametrize("channels", [1, 3])
def test_what_becomes_of_an_image_depends_neither_on_order_nor_on_batch(channels) -> None:
    images = pictures(24, 16, 12, channels)
    order = np.random.default_rng(0).permutation(24)
    for family in families_for(channels):
        whole = spoiled(images, family, 7, images)
        expected = dict(zip(whole.ids.tolist(), whole.images, strict=True))
        mixed = spoiled(images[order], family, 7, images)
        assert {*order[mixed.ids].tolist()} == {*expected}
        for row, image in zip(order[mixed.ids].tolist(), mixed.images, strict=True):
            np.testing.assert_array_equal(image, expected[row], err_msg=family)
        for row in range(24):
            alone = spoiled(images[[row]], family, 7, images)
            assert len(alone.ids) == (row in expected)
            for image in alone.images:
                np.testing.assert_array_equal(image, expected[row], err_msg=family)
        twice = spoiled(images[[3, 3]], family, 7, images).images
        np.testing.assert_array_equal(twice[:1], twice[1:])


def test_bytes_count_and_not_their_layout_in_memory() -> None:
    images = pictures(6, 16, 16, 3)
    backwards = np.ascontiguousarray(images.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
    pair = [spoiled(one, "warp", 2, one).images for one in (images, backwards)]
    np.testing.assert_array_equal(*pair)


def test_seed_family_and_image_each_have_their_own_draws(monkeypatch) -> None:
    monkeypatch.setitem(FAMILIES, "more noise", FAMILIES["noise"])
    gray = np.full((2, 40, 40, 3), 128, np.uint8)
    gray[1, 0, 0] = 129
    first, second = spoiled(gray, "noise", 0, gray).images.astype(float) - gray
    (other_seed,) = spoiled(gray[:1], "noise", 1, gray).images.astype(float) - gray[:1]
    (other_family,) = spoiled(gray[:1], "more noise", 0, gray).images.astype(float) - gray[:1]
    for other in (second, other_seed, other_family):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.1


@pytest.mark.slow
def test_another_process_draws_the_same() -> None:
    def first_bytes(hash_seed: str) -> str:
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", FIRST_BYTES]
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout

    assert len(first_bytes("1")) > 600
    assert first_bytes("1") == first_bytes("2")


@pytest.mark.parametrize("family", ["paste", "half"])
def test_no_image_gets_a_piece_of_itself_if_there_is_another(family) -> None:
    image = np.zeros((1, 12, 12, 1), np.uint8)
    white = np.full_like(image, 255)
    others = np.concatenate([image, image, image, white, image])
    for seed in range(30):
        assert spoiled(image, family, seed, others).images.max() > 50
    assert len(spoiled(image, family, 0, others[:3]).ids) == 0


def test_all_others_are_used() -> None:
    image = np.zeros((1, 8, 8, 1), np.uint8)
    others = np.full((5, 8, 8, 1), np.arange(50, 100, 10).reshape(5, 1, 1, 1), np.uint8)
    found = {int(spoiled(image, "half", seed, others).images.max()) for seed in range(60)}
    assert found == {50, 60, 70, 80, 90}


def test_images_that_stay_almost_as_they_are_are_left_out() -> None:
    image = np.zeros((4, 8, 8, 1), np.uint8)
    image[1:, 0, 0, 0] = [31, 32, 200]  # turned, two of 64 pixels differ by this
    found = spoiled(image, "upside-down", 0, image)
    assert found.ids.tolist() == [2, 3]
    np.testing.assert_array_equal(found.images, image[2:, ::-1, ::-1])
    none = spoiled(image[:2], "upside-down", 0, image)
    assert none.images.shape == (0, 8, 8, 1) and none.images.dtype == np.uint8
    assert none.ids.shape == (0,) and none.ids.dtype == np.int64


def test_gray_images_in_three_channels_have_no_outliers_of_colour() -> None:
    images = np.repeat(pictures(5, 10, 10, 1), 3, axis=3)
    for family in ("channels", "hue"):
        assert len(spoiled(images, family, 0, images).ids) == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_the_sheet_has_a_row_of_originals_and_one_for_each_family(channels) -> None:
    images = pictures(20, 16, 12, channels)
    images[2] = 90  # which no turn changes
    sheet = contact_sheet(images, 5, images)

    def drawn(image: np.ndarray) -> Image.Image:
        return Image.fromarray(np.kron(image, np.ones((6, 6, 1), np.uint8)).squeeze())

    names = families_for(channels)
    rows = [[drawn(image) for image in images[:8]]]
    for name in names:
        found = spoiled(images[:8], name, 5, images)
        shown = dict(zip(found.ids.tolist(), found.images, strict=True))
        white = np.full((16, 12, channels), 255, np.uint8)
        rows.append([drawn(shown.get(column, white)) for column in range(8)])
    expected = draw_sheet(rows, row_titles=["normal", *names])
    np.testing.assert_array_equal(np.asarray(sheet), np.asarray(expected))
    turned = np.asarray(rows[1 + names.index("upside-down")][2])
    assert (turned == 255).all()
