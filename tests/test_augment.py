"""Each operation of a view, and the whole of it, against Pillow and torchvision, in levels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter
from torchvision.transforms.v2 import functional as tv

from dali_pipes import augment
from dali_pipes.batch import RGB_MEAN, RGB_STD, ViewSpec
from dali_pipes.draws import draw_view
from dali_pipes.inputs import graph_inputs
from tests.conftest import photographs
from tests.view_cases import pillow_view, run_graph

COUNT = 16
RGB = photographs(COUNT, 32, 3)
GRAY = photographs(COUNT, 28, 1)
BOTH = pytest.mark.parametrize("images", [RGB, GRAY], ids=["rgb", "gray"])


def error(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, int]:
    """Mean and largest absolute difference in levels."""
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    return float(difference.mean()), int(difference.max())


def pillow(images: np.ndarray, change) -> np.ndarray:
    results = [
        np.asarray(change(Image.fromarray(np.squeeze(image)), i)) for i, image in enumerate(images)
    ]
    return np.stack(results).reshape(len(images), *results[0].shape[:2], images.shape[-1])


@BOTH
@pytest.mark.parametrize("side_px", [14, 64])
def test_resize_is_pillows_bicubic(images, side_px) -> None:
    ours = run_graph(images, lambda image, _: augment.resize(image, side_px), {})
    size, how = (side_px, side_px), Image.Resampling.BICUBIC
    mean, worst = error(ours, pillow(images, lambda picture, _: picture.resize(size, how)))
    assert mean < 0.5 and worst <= 12


@BOTH
def test_brightness_and_contrast_about_the_mean_luma(images) -> None:
    rng = np.random.default_rng(0)
    factors = rng.uniform(0.6, 1.4, (2, COUNT)).astype(np.float32)
    ours = run_graph(
        images,
        lambda image, p: augment.brightness_contrast(
            image, p["brightness"], p["contrast"], images.shape[-1]
        ),
        {"brightness": factors[0], "contrast": factors[1]},
    )

    def expected(picture: Image.Image, i: int) -> np.ndarray:
        levels = np.asarray(picture, float) * factors[0, i]
        luma = np.asarray(picture.convert("L"), float).mean() * factors[0, i]
        return np.clip(np.rint((levels - luma) * factors[1, i] + luma), 0, 255)

    mean, worst = error(ours, pillow(images, expected))
    assert mean < 0.2 and worst <= 1


def test_contrast_alone_equals_pillows() -> None:
    factor = np.linspace(0.6, 1.4, COUNT, dtype=np.float32)
    ours = run_graph(
        RGB,
        lambda image, p: augment.brightness_contrast(image, p["brightness"], p["contrast"], 3),
        {"brightness": np.ones(COUNT, np.float32), "contrast": factor},
    )
    theirs = pillow(
        RGB, lambda picture, i: ImageEnhance.Contrast(picture).enhance(float(factor[i]))
    )
    mean, worst = error(ours, theirs)
    assert mean < 0.5 and worst <= 2


def photometric_params(**given: np.ndarray) -> dict[str, np.ndarray]:
    """Parameters that change nothing but what is given."""
    one = np.ones(COUNT, np.float32)
    neutral = {
        "brightness": one,
        "contrast": one,
        "saturation": one,
        "hue_deg": 0 * one,
        "blur_sigma": np.ones((COUNT, 2), np.float32),
        "blur_window": np.ones((COUNT, 2), np.int32),
    }
    return {**neutral, **given}


def photometric(images: np.ndarray, **given: np.ndarray) -> np.ndarray:
    channels = images.shape[-1]
    return run_graph(
        images,
        lambda image, p: augment.photometric(image, p, channels),
        photometric_params(**given),
    )


@BOTH
def test_neutral_parameters_change_nothing(images) -> None:
    assert error(photometric(images), images)[1] <= 1


def test_saturation_equals_pillows_down_to_gray() -> None:
    factor = np.r_[0.0, np.linspace(0.8, 1.2, COUNT - 1)].astype(np.float32)
    theirs = pillow(RGB, lambda picture, i: ImageEnhance.Color(picture).enhance(float(factor[i])))
    mean, worst = error(photometric(RGB, saturation=factor), theirs)
    assert mean < 0.6 and worst <= 2


def test_gray_of_any_hue_is_pillows_luma() -> None:
    ours = photometric(
        RGB,
        saturation=np.zeros(COUNT, np.float32),
        hue_deg=np.linspace(-36, 36, COUNT, dtype=np.float32),
    )
    theirs = pillow(RGB, lambda picture, _: picture.convert("L").convert("RGB"))
    mean, worst = error(ours, theirs)
    assert mean < 0.6 and worst <= 2


def test_hue_turns_by_degrees() -> None:
    hue_deg = np.full(COUNT, 36, np.float32)
    turned = photometric(RGB, hue_deg=hue_deg)
    right = tv.adjust_hue(torch.from_numpy(RGB).movedim(-1, 1), 0.1).movedim(1, -1).numpy()
    wrong = tv.adjust_hue(torch.from_numpy(RGB).movedim(-1, 1), -0.1).movedim(1, -1).numpy()
    # YIQ's rotation is not HSV's: size and direction of the change are alike, not each pixel.
    assert 0.6 < error(turned, RGB)[0] / error(right, RGB)[0] < 1.6
    assert error(turned, right)[0] < 0.7 * error(turned, wrong)[0]


@BOTH
def test_blur_is_gaussian(images) -> None:
    sigma = np.linspace(0.3, 2.0, COUNT, dtype=np.float32)
    large = np.stack(
        [
            np.asarray(Image.fromarray(np.squeeze(image)).resize((96, 96))).reshape(96, 96, -1)
            for image in images
        ]
    )
    ours = photometric(
        large,
        blur_sigma=sigma[:, None].repeat(2, 1),
        blur_window=(2 * np.ceil(3 * sigma) + 1).astype(np.int32)[:, None].repeat(2, 1),
    )
    theirs = pillow(
        large, lambda picture, i: picture.filter(ImageFilter.GaussianBlur(float(sigma[i])))
    )
    inner = (slice(None), slice(6, -6), slice(6, -6))  # borders are extended differently
    assert error(ours[inner], theirs[inner])[0] < 0.6


@BOTH
def test_solarize_inverts_128_and_more_where_chosen(images) -> None:
    chosen = np.arange(COUNT) % 2 == 0
    ours = run_graph(
        images, lambda image, p: augment.solarize(image, p["solarize"]), {"solarize": chosen}
    )
    inverted = np.where(images >= 128, 255 - images, images)
    assert (ours == np.where(chosen[:, None, None, None], inverted, images)).all()


@BOTH
def test_normalize_is_imagenets_on_three_channels(images) -> None:
    channels = images.shape[-1]
    ours = run_graph(images, lambda image, _: augment.normalize(image, channels), {})
    theirs = (images.repeat(3 // channels, -1) - np.array(RGB_MEAN)) / np.array(RGB_STD)
    assert ours.dtype == np.float32
    assert np.abs(ours - theirs.transpose(0, 3, 1, 2)).max() < 1e-5


@BOTH
@pytest.mark.parametrize("space", ["view", "source"])
@pytest.mark.parametrize("kind", ["global-1", "global-2", "local"])
def test_the_whole_view_equals_pillows_with_the_same_draws(images, space, kind) -> None:
    """Hue apart, which DALI turns in another colour space (see the test above)."""
    side_px, channels = 64, images.shape[-1]
    spec = ViewSpec(hue_deg=0.0, photometric_space=space)
    draw = draw_view(np.random.default_rng(5), spec, kind, COUNT, images.shape[1:3])
    params = graph_inputs(draw, side_px, channels, in_source_space=space == "source")
    ours = run_graph(
        images,
        lambda image, p: augment.view_of(
            image, p, side_px, channels, in_source_space=space == "source"
        ),
        params,
    )
    theirs = np.stack([pillow_view(image, draw, i, side_px) for i, image in enumerate(images)])
    unsolarized = ~draw.solarize  # a level beside 128 that rounds the other way is a large error
    mean, _ = error(ours[unsolarized], theirs[unsolarized])
    assert mean < (0.7 if space == "view" else 1.2)
    assert error(ours, theirs)[0] < 2


def test_without_blur_the_two_spaces_agree() -> None:
    spec = dataclasses.replace(ViewSpec(), blur_p=(0.0, 0.0, 0.0), solarize_p=0.0)
    draw = draw_view(np.random.default_rng(6), spec, "global-1", COUNT, (32, 32))
    views = [
        run_graph(
            RGB,
            lambda image, p, s=space: augment.view_of(image, p, 64, 3, in_source_space=s),
            graph_inputs(draw, 64, 3, in_source_space=space),
        )
        for space in (True, False)
    ]
    assert error(*views)[0] < 1.0
