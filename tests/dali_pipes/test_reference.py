"""The slow reference, against formulas written by hand; the engines are compared with it."""

from __future__ import annotations

import colorsys
import dataclasses

import numpy as np
import pytest
from PIL import Image

from dali_pipes.batch import ViewSpec
from dali_pipes.parity import reference
from dali_pipes.shifts.table import SHIFTS, shift_named
from dali_pipes.view_params import ViewParams, draw_view_params
from tests.support.image_sets import photographs

RGB = photographs(4, 32, 3)
GRAY = photographs(4, 28, 1)
BOTH = pytest.mark.parametrize("images", [RGB, GRAY], ids=["rgb", "gray"])
LUMA = np.array([0.299, 0.587, 0.114])
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def neutral(side_px: int) -> ViewParams:
    """Return the parameters of the whole image, unchanged."""
    one = np.float32(1)
    return ViewParams(
        crop_start=np.zeros(2, np.int32),
        crop_shape=np.full(2, side_px, np.int32),
        flip=np.int32(0),
        brightness=one,
        contrast=one,
        saturation=one,
        hue_deg=np.float32(0),
        jitter_order=np.arange(4, dtype=np.uint8),
        gray=np.bool_(False),
        blur_sigma_px=np.float32(0),
        solarize=np.bool_(False),
    )


def changed(image: np.ndarray, **values) -> np.ndarray:
    """Return the view of a whole image whose parameters are neutral except `values`."""
    side_px = image.shape[0]
    return reference.reference_view(image, neutral_with(side_px, **values), side_px)


def neutral_with(side_px: int, **values) -> ViewParams:
    typed = {name: np.asarray(value) for name, value in values.items()}
    return dataclasses.replace(neutral(side_px), **typed)


def worst(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours.astype(float) - theirs).max())


HALF = 0.52
"""Largest error of a rounded level, with some tolerance for float32."""


@BOTH
@pytest.mark.parametrize("arithmetic", ["exact", "pillow"])
def test_neutral_parameters_leave_each_bit(images, arithmetic) -> None:
    for image in images:
        side_px = image.shape[0]
        for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
            params = neutral_with(side_px, jitter_order=order)
            view = reference.reference_view(image, params, side_px, arithmetic)
            assert view.dtype == np.uint8 and (view == image).all()


@BOTH
def test_a_crop_is_cut_out_before_it_is_resized(images) -> None:
    """The crop has the pixels that numpy cuts out, and no pixel outside it changes the view."""
    image = images[0]
    box = {"crop_start": [3, 7], "crop_shape": [10, 16]}
    params = neutral_with(image.shape[0], **box)
    view = reference.reference_view(image, params, 24, "pillow")
    alone = Image.fromarray(np.squeeze(image[3:13, 7:23])).resize(
        (24, 24), Image.Resampling.BICUBIC
    )
    assert view.shape == (24, 24, image.shape[-1])
    assert (view == np.asarray(alone).reshape(view.shape)).all()
    exact = reference.reference_view(image, params, 24).astype(int)
    assert np.abs(exact - view).max() <= 8 and np.abs(exact - view).mean() < 0.5


def test_bicubic_is_the_catmull_rom_spline_of_pillow() -> None:
    """A ramp is enlarged by 2; the weights of four neighbours are computed by hand (a = -0.5)."""
    ramp = np.linspace(20, 230, 8).round().astype(np.uint8)[None, :, None].repeat(8, 0)

    def cubic(x: float) -> float:
        x = abs(x)
        return (1.5 * x - 2.5) * x * x + 1 if x < 1 else ((-0.5 * x + 2.5) * x - 4) * x + 2

    view = reference.crop_resize(ramp, np.array([0, 0]), np.array([8, 8]), 16)
    for column in range(4, 12):
        middle = (column + 0.5) / 2 - 0.5
        near = np.arange(int(middle) - 1, int(middle) + 3)
        expected = sum(cubic(middle - n) * float(ramp[0, n, 0]) for n in near)
        assert abs(float(view[8, column, 0]) - expected) <= 1


@BOTH
def test_flip_mirrors_left_and_right(images) -> None:
    assert (changed(images[0], flip=1) == images[0][:, ::-1]).all()


@BOTH
@pytest.mark.parametrize("factor", [0.6, 1.4])
def test_brightness_and_contrast_by_hand(images, factor) -> None:
    image = images[1].astype(float)
    assert worst(changed(images[1], brightness=factor), np.clip(image * factor, 0, 255)) < HALF
    mean = (image @ LUMA if image.shape[-1] == 3 else image).mean()
    by_hand = np.clip((image - mean) * factor + mean, 0, 255)
    assert worst(changed(images[1], contrast=factor), by_hand) < HALF


@pytest.mark.parametrize("factor", [0.0, 0.8, 1.2])
def test_saturation_by_hand(factor) -> None:
    image = RGB[1].astype(float)
    luma = (image @ LUMA)[..., None]
    by_hand = np.clip((image - luma) * factor + luma, 0, 255)
    assert worst(changed(RGB[1], saturation=factor), by_hand) < HALF


@pytest.mark.parametrize("angle_deg", [-36.0, 10.0, 36.0, 120.0])
def test_hue_turns_by_degrees_as_in_colorsys(angle_deg) -> None:
    def turn(pixel: np.ndarray) -> list[float]:
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255))
        return [
            255 * c for c in colorsys.hsv_to_rgb((hue + angle_deg / 360) % 1, saturation, value)
        ]

    by_hand = np.apply_along_axis(turn, -1, RGB[0].astype(float))
    assert worst(changed(RGB[0], hue_deg=angle_deg), by_hand) < HALF


def test_gray_is_the_luma_in_all_channels() -> None:
    by_hand = (RGB[2] @ LUMA)[..., None].repeat(3, -1)
    assert worst(changed(RGB[2], gray=True), by_hand) < HALF


def test_gray_comes_after_the_jitter() -> None:
    """A turned hue changes the luma, so the hue and gray do not commute."""
    first, last = (
        (levels @ LUMA)[..., None].repeat(3, -1)
        for levels in (RGB[2], changed(RGB[2], hue_deg=36.0))
    )
    view = changed(RGB[2], hue_deg=36.0, gray=True)
    assert worst(view, last) < 1.1 and worst(view, first) > 5


def test_gray_images_have_no_colour_to_change() -> None:
    colour = {"saturation": 0.5, "hue_deg": 30.0, "gray": True}
    assert (changed(GRAY[0], **colour) == GRAY[0]).all()


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0]])
def test_jitter_keeps_its_drawn_order_and_clips_in_between(order) -> None:
    values = {"brightness": 1.4, "contrast": 1.4, "saturation": 1.2, "hue_deg": 30.0}
    levels = RGB[3].astype(float)
    for number in order:
        if number == BRIGHTNESS:
            levels = levels * 1.4
        elif number == CONTRAST:
            mean = (levels @ LUMA).mean()
            levels = (levels - mean) * 1.4 + mean
        elif number == SATURATION:
            luma = (levels @ LUMA)[..., None]
            levels = (levels - luma) * 1.2 + luma
        else:
            levels = reference.change_levels("hue", levels.astype(np.float32), 30.0).astype(float)
        levels = np.clip(levels, 0, 255)
    assert worst(changed(RGB[3], jitter_order=np.array(order), **values), levels) < HALF


def test_the_order_matters() -> None:
    values = {"brightness": 1.4, "contrast": 1.4, "saturation": 1.2, "hue_deg": 30.0}
    views = [
        changed(RGB[3], jitter_order=np.array(order), **values).astype(float)
        for order in ([0, 1, 2, 3], [1, 0, 2, 3], [3, 0, 1, 2])
    ]
    assert np.abs(views[0] - views[1]).mean() > 1 and np.abs(views[0] - views[2]).mean() > 0.2


@BOTH
def test_blur_spreads_a_point_by_its_sigma(images) -> None:
    """The blur adds sigma squared, in pixels of the view, to the variance of a small square."""
    point = np.zeros((33, 33, images.shape[-1]), np.uint8)
    point[12:21, 12:21] = 255  # a 9 x 9 square: variance (81 - 1) / 12 along each axis
    for sigma_px in (1.0, 2.0):
        weights = changed(point, blur_sigma_px=sigma_px)[..., 0].astype(float).sum(0)
        variance = (weights * (np.arange(33) - 16) ** 2).sum() / weights.sum()
        assert variance == pytest.approx(80 / 12 + sigma_px**2, rel=0.03)


@BOTH
def test_solarize_inverts_128_and_more(images) -> None:
    image = images[0].copy()
    image[0, :2] = [[127], [128]]
    by_hand = np.where(image >= 128, 255 - image.astype(int), image)
    assert (changed(image, solarize=True) == by_hand).all()
    assert (changed(image, solarize=True)[0, :2] == 127).all()


def test_blur_comes_before_solarize() -> None:
    image = np.zeros((16, 16, 1), np.uint8)
    image[:, 8:] = 200
    blurred = changed(image, blur_sigma_px=1.5)
    by_hand = np.where(blurred >= 128, 255 - blurred, blurred)
    assert (changed(image, blur_sigma_px=1.5, solarize=True) == by_hand).all()


def test_pillows_enhancers_differ_by_their_rounding_alone() -> None:
    params = draw_view_params(
        np.random.default_rng(3), ViewSpec(jitter_p=1.0), "global-2", (4,), (32, 32)
    )
    exact = reference.reference_views(RGB, params, 64).astype(float)
    pillow = reference.reference_views(RGB, params, 64, "pillow").astype(float)
    unsolarized = ~params.solarize  # a level beside the threshold may fall on either side
    difference = (pillow - exact)[unsolarized]
    assert 0 < np.abs(difference).mean() < 2
    assert not (params.solarize.all() or (exact == pillow).all())


@BOTH
def test_normalize_by_hand(images) -> None:
    ours = reference.normalize(images[0])
    assert ours.dtype == np.float32 and ours.shape == (3, *images.shape[1:3])
    for channel, (mean, std) in enumerate(
        zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
    ):
        source = images[0][..., channel % images.shape[-1]] / 255
        assert np.abs(ours[channel] - (source - mean) / std).max() < 1e-5


def test_turns_are_counter_clockwise() -> None:
    view = np.arange(4, dtype=np.uint8).reshape(2, 2, 1)
    assert reference.turned(view, 1)[..., 0].tolist() == [[1, 3], [0, 2]]
    assert (reference.rotated(view, 90.0) == reference.turned(view, 1)).all()


def test_any_angle_has_black_corners_and_keeps_the_middle() -> None:
    view = np.full((33, 33, 3), 200, np.uint8)
    rotated = reference.rotated(view, 45.0)
    assert rotated[0, 0].tolist() == [0, 0, 0] and rotated[16, 16].tolist() == [200] * 3
    assert set(np.unique(rotated)) == {0, 200}  # nearest pixels: nothing in between


def test_squares_move_as_their_order_says() -> None:
    view = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    moved = reference.permuted(view, np.array([3, 0, 1, 2]))[..., 0]
    assert moved.tolist() == [[10, 11, 0, 1], [14, 15, 4, 5], [2, 3, 8, 9], [6, 7, 12, 13]]
    assert (reference.permuted(view, np.arange(4)) == view).all()


def test_pixels_move_with_all_their_channels() -> None:
    view = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    moved = reference.permuted(view, np.array([2, 0, 3, 1]))
    assert moved.tolist() == [[[6, 7, 8], [0, 1, 2]], [[9, 10, 11], [3, 4, 5]]]


def test_a_strong_blur_is_a_true_gaussian_with_mirrored_edges() -> None:
    sigma_px, line = 2.0, GRAY[0][:, 5, 0].astype(float)
    stripes = GRAY[0][:, 5:6].repeat(28, 1)  # equal columns: the blur along them changes nothing
    weights = np.exp(-0.5 * (np.arange(-6, 7) / sigma_px) ** 2)
    by_hand = np.convolve(np.pad(line, 6, mode="reflect"), weights / weights.sum(), "valid")
    blurred = reference.strongly_blurred(stripes, sigma_px)
    assert worst(blurred, by_hand[:, None, None].repeat(28, 1)) < HALF


@pytest.mark.parametrize("name", [*SHIFTS, "perm-4", "perm-16"])
def test_every_shift_has_its_reference(name) -> None:
    """The reference knows the parameters of every shift, and they change the view (except aux)."""
    params = shift_named(name).draw(np.random.default_rng(2), 4, 32)
    views = [
        reference.shifted(view, {key: values[i] for key, values in params.items()})
        for i, view in enumerate(RGB)
    ]
    assert all(view.shape == RGB[0].shape and view.dtype == np.uint8 for view in views)
    assert (np.stack(views) == RGB).all() == (name == "aux")
