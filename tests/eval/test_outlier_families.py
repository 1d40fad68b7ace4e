"""Families of pieces and of geometry against numpy, Pillow, torchvision and torch.

No test repeats how a family draws. The parameters are read from the spoiled images, compared with
the documented ranges, and given to the reference.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import map_coordinates, shift
from scipy.spatial.distance import pdist
from torchvision.transforms import functional

from tests.support.image_sets import photographs
from tests.support.outlier_cases import noise_image, photo, spoil, which

SIZES = [(32, 32), (8, 8), (9, 14), (21, 8)]
FINE = 16
"""Levels per pixel of the ramps that show where a pixel comes from."""


def sources(family: str, height: int, width: int, seed: int) -> np.ndarray:
    """Where the pixels of a spoiled image come from: float64 [2, H, W], in px.

    A ramp of `FINE` levels per px does not fit into 255 levels, so it is cut into images.
    """
    found = []
    for ramp in FINE * np.indices((height, width)):
        cuts = range(0, int(ramp.max()) + 1, 255)
        parts = [(ramp - cut).clip(0, 255).astype(np.uint8)[..., None] for cut in cuts]
        total = sum(spoil(family, part, seed).astype(np.float64) for part in parts)
        found.append(total[..., 0] / FINE)
    return np.stack(found)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_paste_replaces_a_rectangle_by_a_piece_of_the_other(height, width, channels) -> None:
    image = noise_image(height, width, channels, range(0, 128))
    other = noise_image(height, width, channels, range(128, 256))
    moved = []
    for seed in range(30):
        pasted = spoil("paste", image, seed, other)
        rows, columns = np.nonzero(pasted[..., 0] >= 128)
        box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        piece = pasted[box]
        for length, side in zip(piece.shape, (height, width), strict=False):
            assert 0.25 * side - 0.5 <= length <= 0.5 * side + 0.5
        windows = np.lib.stride_tricks.sliding_window_view(other, piece.shape)
        ((top, left, _),) = np.argwhere((windows == piece).all((3, 4, 5)))
        moved.append((top - rows.min(), left - columns.min()))
        pasted[box] = image[box]
        np.testing.assert_array_equal(pasted, image)
    assert (np.std(moved, axis=0) > (height / 10, width / 10)).all()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_half_joins_halves_of_both_images(height, width) -> None:
    image, other = photographs(2, 40, 3)[:, :height, :width]
    joined = [
        np.concatenate(pair)
        for pair in (
            (other[: height // 2], image[height // 2 :]),
            (image[: height // 2], other[height // 2 :]),
        )
    ]
    joined += [
        np.hstack(pair)
        for pair in (
            (other[:, : width // 2], image[:, width // 2 :]),
            (image[:, : width // 2], other[:, width // 2 :]),
        )
    ]
    found = [which(spoil("half", image, seed, other), joined) for seed in range(30)]
    assert {*found} == {0, 1, 2, 3}


@pytest.mark.parametrize("channels", [1, 3])
def test_a_scratch_is_a_straight_thin_line_of_one_colour(channels) -> None:
    image = np.full((100, 130, channels), 77, np.uint8)
    lengths, widths = [], []
    for seed in range(30):
        scratched = spoil("scratch", image, seed)
        points = np.argwhere((scratched != image).any(2))
        assert len(np.unique(scratched[tuple(points.T)], axis=0)) == 1
        lengths.append(pdist(points).max())
        _, across = np.linalg.svd(points - points.mean(0), full_matrices=False)[2]
        widths.append(np.ptp(points @ across))
        assert len(points) > 0.8 * lengths[-1]
    assert 28 <= min(lengths) < 45 and 65 < max(lengths) <= 84
    assert min(widths) <= 3 < max(widths) <= 5


@pytest.mark.parametrize("channels", [1, 3])
def test_a_blot_is_an_ellipse_of_one_colour(channels) -> None:
    image = np.full((130, 100, channels), 77, np.uint8)
    diameters = []
    for seed in range(30):
        blotted = spoil("blot", image, seed)
        blot = (blotted != image).any(2)
        points = np.argwhere(blot)
        assert len(np.unique(blotted[blot], axis=0)) == 1
        (top, left), (bottom, right) = points.min(0).tolist(), points.max(0).tolist()
        canvas = Image.new("1", (100, 130))
        ImageDraw.Draw(canvas).ellipse([left, top, right, bottom], 1)
        assert (np.asarray(canvas) != blot).sum() <= 0.06 * blot.sum()
        assert 24 <= (left + right) / 2 <= 75 and 32 <= (top + bottom) / 2 <= 98
        diameters += [right - left + 1, bottom - top + 1]
    assert 10 <= min(diameters) < 13 and 27 < max(diameters) <= 30


@pytest.mark.parametrize("family", ["scratch", "blot"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_drawn_on_a_tiny_image_has_a_pixel_at_least(family, channels) -> None:
    image = np.full((8, 9, channels), 77, np.uint8)
    for seed in range(40):
        assert 1 <= (spoil(family, image, seed) != image).any(2).sum() <= 16


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_turns_are_those_of_pillow(height, width, channels) -> None:
    image = photo(height, width, channels)
    picture = Image.fromarray(image.squeeze())
    expected = np.asarray(picture.transpose(Image.Transpose.ROTATE_180)).reshape(image.shape)
    np.testing.assert_array_equal(spoil("upside-down", image, 0), expected)
    turned = []
    for turn in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270):
        pixels = torch.from_numpy(np.array(picture.transpose(turn))).reshape(
            width, height, channels
        )
        resized = functional.resize(pixels.movedim(2, 0).float(), [height, width], antialias=True)
        turned.append(resized.movedim(0, 2).numpy())
    closest = set()
    for seed in range(10):
        errors = [np.abs(spoil("quarter-turn", image, seed) - one).max() for one in turned]
        assert min(errors) <= (0 if height == width else 1.5)
        closest.add(int(np.argmin(errors)))
    assert closest == {0, 1}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_quarters_come_in_each_other_order(height, width, channels) -> None:
    image = photo(height, width, channels)
    rows, columns = height // 2, width // 2
    corners = [(0, 0), (0, width - columns), (height - rows, 0), (height - rows, width - columns)]
    candidates = []
    for order in permutations(corners):
        exchanged = image.copy()
        for (top, left), (from_top, from_left) in zip(corners, order, strict=True):
            for i in range(rows):
                for j in range(columns):
                    exchanged[top + i, left + j] = image[from_top + i, from_left + j]
        candidates.append(exchanged)
    found = {which(spoil("quarters", image, seed), candidates) for seed in range(150)}
    assert found == {*range(1, 24)}


def test_scale_enlarges_the_middle_or_reduces_the_image() -> None:
    height, width = 48, 64
    image = photo(height, width, 3)
    levels = torch.from_numpy(image).movedim(2, 0)[None].float()
    enlarged, reduced = [], []
    for seed in range(30):
        spoiled = spoil("scale", image, seed)
        found = sources("scale", height, width, seed)
        step = np.gradient(found[1][height // 2])[width // 2]
        if step < 1:  # enlarged: the distance of neighbours is less than 1 px
            share = np.ptp(found[1][0]) / (width - 1)
            at = np.indices((height, width)) * share
            at += (np.array([height, width]).reshape(2, 1, 1) - 1) * (1 - share) / 2
            np.testing.assert_allclose(found, at, atol=0.1)
            planes = [map_coordinates(p, at, float, order=1) for p in np.moveaxis(image, 2, 0)]
            assert np.abs(spoiled - np.stack(planes, 2)).max() < 8
            assert np.abs(spoiled - np.stack(planes, 2)).mean() < 0.6
            enlarged.append(share)
        else:
            size = []
            for axis, side in enumerate((height, width)):
                line = found[axis].mean(1 - axis)[side // 3 : -side // 3]
                size.append(round(side / np.polyfit(range(len(line)), line, 1)[0]))
            small = torch.nn.functional.interpolate(levels, size, mode="bilinear", antialias=True)
            gaps = [(whole - part) // 2 for whole, part in zip((height, width), size, strict=True)]
            ends = [
                w - part - gap for w, part, gap in zip((height, width), size, gaps, strict=True)
            ]
            pads = (gaps[1], ends[1], gaps[0], ends[0])
            padded = torch.nn.functional.pad(small, pads, mode="replicate")
            assert np.abs(spoiled - padded[0].movedim(0, 2).numpy()).max() <= 1.5
            reduced += [size[0] / height, size[1] / width]
    for shares in (enlarged, reduced):
        assert 0.49 <= min(shares) < 0.58 and 0.67 < max(shares) <= 0.76


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_place_moves_by_whole_pixels_and_repeats_the_border(height, width, channels) -> None:
    image, side = photo(height, width, channels), min(height, width)
    lengths, directions = [], set()
    for seed in range(40):
        found = sources("place", height, width, seed)
        middle = found[:, height // 2, width // 2]
        moved = np.array([height // 2, width // 2]) - middle
        assert (moved == moved.round()).all()
        lengths.append(np.hypot(*moved) / side)
        directions.add((moved > 0).tobytes())
        expected = shift(image, (*moved, 0), order=0, mode="nearest")
        np.testing.assert_array_equal(spoil("place", image, seed), expected)
    rounding = np.hypot(0.5, 0.5) / side
    assert 0.15 - rounding <= min(lengths) < 0.2 + rounding
    assert 0.3 - rounding < max(lengths) <= 0.35 + rounding
    assert len(directions) == 4


def test_swell_takes_the_highest_or_the_lowest_levels_around_each_pixel() -> None:
    """As Pillow's filters do."""
    image = photo(40, 60, 3)
    seen = set()
    for seed in range(40):
        found = spoil("swell", image, seed)
        matches = {
            (kind.__name__, radius_px)
            for kind in (ImageFilter.MaxFilter, ImageFilter.MinFilter)
            for radius_px in range(8)
            if np.array_equal(Image.fromarray(image).filter(kind(2 * radius_px + 1)), found)
        }
        assert len(matches) == 1, seed
        seen |= matches
    assert seen == {(kind, radius) for kind in ("MaxFilter", "MinFilter") for radius in (2, 3, 4)}


def test_warp_takes_levels_from_places_at_smooth_random_distances() -> None:
    height, width = 64, 80
    image = photo(height, width, 3)
    size = np.array([width, height])
    strengths = []
    for seed in range(12):
        found = sources("warp", height, width, seed)
        places = torch.from_numpy(2 * np.moveaxis(found, 0, 2)[..., ::-1] / (size - 1) - 1)
        levels = torch.from_numpy(image).movedim(2, 0)[None].double()
        expected = torch.nn.functional.grid_sample(
            levels, places[None], padding_mode="border", align_corners=True
        )[0]
        assert np.abs(spoil("warp", image, seed) - expected.movedim(0, 2).numpy()).mean() < 1
        # Sources outside of the image were moved to its border, so only the middle is measured.
        distances = (found - np.indices((height, width)))[:, 12:-12, 12:-12]
        strengths.append(distances.std() / height)
        slopes = [np.diff(distances, axis=axis).std() for axis in (1, 2)]
        smooth = np.sqrt(2) * height / 8  # smoothed noise has slopes of its std over this length
        np.testing.assert_allclose(slopes, distances.std() / smooth, rtol=0.5)
    assert 0.03 < min(strengths) < 0.06 and 0.07 < max(strengths) < 0.12
