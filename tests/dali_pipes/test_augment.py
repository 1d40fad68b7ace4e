"""The operations of the DALI engine against Pillow, torchvision and numpy, in levels.

Each operation and whole views on many draws are in `test_parity.py`; here are their edges.
"""

from __future__ import annotations

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchvision.transforms.v2 import functional as tv

from dali_pipes.batch import RGB_MEAN, RGB_STD, ViewSpec
from dali_pipes.blur import blur_kernels
from dali_pipes.dali import augment
from dali_pipes.dali.colour import colour_maps, colour_normalized
from dali_pipes.dali.params import graph_params
from dali_pipes.parity import reference
from dali_pipes.parity.compare import neutral
from dali_pipes.parity.engines import render_by_dali
from dali_pipes.view_params import ViewParams, draw_view_params
from tests.support.image_sets import photographs
from tests.support.view_cases import run_graph

COUNT = 24
RGB = photographs(COUNT, 32, 3)
GRAY = photographs(COUNT, 28, 1)
BOTH = pytest.mark.parametrize("images", [RGB, GRAY], ids=["rgb", "gray"])
SPACES = pytest.mark.parametrize("space", ["source", "view"])
ORDERS = np.array(list(itertools.permutations(range(4))), np.uint8)


def error(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Return the mean and the largest absolute difference, in levels."""
    difference = np.abs(ours.astype(np.float32) - theirs)
    return float(difference.mean()), float(difference.max())


def views(images: np.ndarray, params: ViewParams, side_px: int, space: str) -> np.ndarray:
    """Return the views as levels [B, side, side, C]."""
    return render_by_dali(images, params, side_px, device="cpu", in_source_space=space == "source")


def unchanged(images: np.ndarray, **given: np.ndarray) -> ViewParams:
    """Return parameters of whole images in which only the given values change something."""
    return replace(neutral(len(images), images.shape[1]), **given)


# Crop, resize, flip.


@BOTH
@pytest.mark.parametrize("side_px", [14, 64])
def test_resize_is_pillows_bicubic(images, side_px) -> None:
    ours = run_graph(images, lambda image, _: augment.resize(image, [side_px, side_px]), {})
    size = (side_px, side_px)
    theirs = [
        np.asarray(Image.fromarray(image.squeeze()).resize(size, Image.Resampling.BICUBIC))
        for image in images
    ]
    mean, worst = error(ours, np.stack(theirs).reshape(ours.shape))
    assert mean < 0.5 and worst <= 12


@pytest.mark.slow
@BOTH
@SPACES
def test_a_flip_mirrors_the_view_left_to_right(images, space) -> None:
    flip = np.arange(COUNT, dtype=np.int32) % 2
    ours = views(images, unchanged(images, flip=flip), 64, space)
    plain = views(images, unchanged(images), 64, space)
    expected = np.where(flip[:, None, None, None] == 1, plain[:, :, ::-1], plain)
    assert error(ours, expected)[0] < 0.05 and error(ours, expected)[1] <= 1


@SPACES
def test_no_pixel_outside_the_crop_is_read(space) -> None:
    box = {
        "crop_start": np.full((COUNT, 2), 8, np.int32),
        "crop_shape": np.full((COUNT, 2), 16, np.int32),
    }
    params = unchanged(
        RGB,
        **box,
        blur_sigma_px=np.full(COUNT, 2, np.float32),
        contrast=np.full(COUNT, 0.6, np.float32),
    )
    poisoned = 255 - RGB
    poisoned[:, 8:24, 8:24] = RGB[:, 8:24, 8:24]
    assert (views(poisoned, params, 64, space) == views(RGB, params, 64, space)).all()


# Colours.


def one_by_one(images: np.ndarray, params: ViewParams) -> np.ndarray:
    """Return torchvision's jitter without the hue, not clipped or rounded: float levels."""
    results = []
    for i, image in enumerate(torch.from_numpy(images).movedim(-1, 1).float() / 255):
        for operation in params.jitter_order[i]:
            match operation:
                case 0:
                    image = tv.adjust_brightness(image, float(params.brightness[i]))
                case 1:
                    image = tv.adjust_contrast(image, float(params.contrast[i]))
                case 2:
                    image = tv.adjust_saturation(image, float(params.saturation[i]))
        if params.gray[i]:
            image = tv.rgb_to_grayscale(image, num_output_channels=3)
        results.append(255 * image.movedim(0, -1).numpy())
    return np.stack(results)


@SPACES
@pytest.mark.parametrize("gray", [False, True])
def test_jitter_in_each_of_its_orders_is_torchvisions(gray, space) -> None:
    muted = RGB // 3 + 64  # no operation clips
    rng = np.random.default_rng(0)
    factors = rng.uniform(0.6, 1.4, (3, len(ORDERS))).astype(np.float32)
    params = unchanged(
        muted,
        brightness=factors[0],
        contrast=factors[1],
        saturation=factors[2],
        jitter_order=ORDERS,
        gray=np.full(COUNT, gray),
    )
    ours = views(muted, params, 32, space)
    assert error(ours, one_by_one(muted, params))[1] <= (2 if space == "source" else 0.5)


@BOTH
@SPACES
def test_what_brightness_clips_is_lost_to_contrast(images, space) -> None:
    ones = np.ones(COUNT, np.float32)
    for order in ([0, 1, 2, 3], [1, 0, 2, 3]):
        params = unchanged(
            images,
            brightness=1.4 * ones,
            contrast=0.6 * ones,
            jitter_order=np.tile(np.array(order, np.uint8), (COUNT, 1)),
        )
        expected = reference.reference_views(images, params, images.shape[1])
        ours = views(images, params, images.shape[1], space)
        assert error(ours, expected)[0] < 0.5 and error(ours, expected)[1] <= 2


def test_maps_of_gray_images_leave_colour_alone() -> None:
    params = draw_view_params(np.random.default_rng(1), ViewSpec(), "local", (2, 5), (28, 28))
    for maps in colour_maps(params, 1):
        assert maps.of_pixel.shape == maps.of_mean.shape == (2, 5, 1, 1)
    first, second = colour_maps(params, 1)
    at_mean = (first.of_pixel + first.of_mean) * (second.of_pixel + second.of_mean)
    assert np.allclose(at_mean[..., 0, 0], params.brightness)  # contrast turns about the mean


@SPACES
def test_hue_turns_by_degrees(space) -> None:
    ours = views(RGB, unchanged(RGB, hue_deg=np.full(COUNT, 36, np.float32)), 32, space)
    planes = torch.from_numpy(RGB).movedim(-1, 1)
    right, wrong = (
        tv.adjust_hue(planes, turn).movedim(1, -1).numpy() for turn in (36 / 360, -36 / 360)
    )
    # A rotation in YIQ differs from HSV's: only the size and the direction of the change agree.
    assert 0.6 < error(ours, RGB)[0] / error(right, RGB)[0] < 1.6
    assert error(ours, right)[0] < 0.7 * error(ours, wrong)[0]


def test_hue_keeps_the_luma() -> None:
    muted = RGB // 3 + 64
    params = unchanged(muted, hue_deg=np.linspace(-36, 36, COUNT, dtype=np.float32))
    luma = np.array([0.299, 0.587, 0.114])
    assert error(views(muted, params, 32, "view") @ luma, muted @ luma)[1] < 0.01


# Blur.


def test_a_kernel_has_the_requested_deviation() -> None:
    sigma_px = np.array([0.0, 0.1, 0.3, 0.5, 1.0, 2.0])
    kernels = blur_kernels(sigma_px)
    place = np.arange(kernels.shape[-1]) - kernels.shape[-1] // 2
    assert np.allclose(kernels.sum(-1), 1)
    assert np.allclose(kernels, kernels[:, ::-1])
    deviation = np.sqrt((kernels * place**2).sum(-1))
    assert np.allclose(deviation, sigma_px, atol=0.003)
    assert (kernels[0] == (place == 0)).all()


def test_a_kernel_does_not_depend_on_the_others_of_the_batch() -> None:
    alone, together = blur_kernels(np.array([0.7])), blur_kernels(np.array([0.7, 2.0]))
    margin = (together.shape[-1] - alone.shape[-1]) // 2
    assert margin > 0
    assert (np.pad(alone[0], margin) == together[0]).all()


@BOTH
def test_blur_is_pillows_up_to_the_border(images) -> None:
    side_px = 96
    sigma_px = np.linspace(0.1, 2.0, COUNT, dtype=np.float32)
    sharp = views(images, unchanged(images), side_px, "view")
    ours = views(images, unchanged(images, blur_sigma_px=sigma_px), side_px, "view")
    theirs = np.stack(
        [
            Image.fromarray(np.rint(view).astype(np.uint8).squeeze()).filter(
                ImageFilter.GaussianBlur(float(sigma))
            )
            for view, sigma in zip(sharp, sigma_px, strict=True)
        ]
    ).reshape(ours.shape)
    assert error(ours, theirs)[0] < 0.6
    edge = ours[:, [0, -1]], theirs[:, [0, -1]]
    assert error(*edge)[0] < 1.0


@BOTH
@pytest.mark.parametrize("blur_p", [0.0, 1.0])
def test_the_two_spaces_agree(images, blur_p) -> None:
    spec = replace(ViewSpec(), blur_p=(blur_p,) * 3, solarize_p=0.0)
    hw = images.shape[1:3]
    params = draw_view_params(np.random.default_rng(6), spec, "global-1", (COUNT,), hw)
    assert error(*(views(images, params, 128, space) for space in ("source", "view")))[0] < 1.0


# Solarize, normalise.


@BOTH
@SPACES
def test_solarize_inverts_128_and_more_where_chosen(images, space) -> None:
    chosen = np.arange(COUNT) % 2 == 0
    ours = views(images, unchanged(images, solarize=chosen), images.shape[1], space)
    inverted = np.where(images >= 128, 255 - images, images)
    expected = np.where(chosen[:, None, None, None], inverted, images)
    assert error(ours, expected)[1] < 0.01


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_finished_views_are_normalized_by_imagenet(images, dtype) -> None:
    side_px = images.shape[1]
    out = torch.full((COUNT, 3, side_px, side_px), torch.nan, dtype=dtype)
    colour_normalized(torch.from_numpy(images), unchanged(images), out)
    theirs = (images.repeat(3 // images.shape[-1], -1) - np.array(RGB_MEAN)) / np.array(RGB_STD)
    worst = np.abs(out.float().numpy() - theirs.transpose(0, 3, 1, 2)).max()
    assert worst < (1e-5 if dtype == torch.float32 else 0.01)


def test_only_views_that_may_be_solarized_have_the_parameter() -> None:
    for kind, has in [("global-1", False), ("global-2", True), ("global-any", True)]:
        params = graph_params(unchanged(RGB), kind, 64, 3, in_source_space=True)
        assert ("solarize" in params) == has


@BOTH
def test_normalize_is_imagenets_on_three_channels(images) -> None:
    channels = images.shape[-1]
    ours = run_graph(images, lambda image, _: augment.normalize(image, channels), {})
    theirs = (images.repeat(3 // channels, -1) - np.array(RGB_MEAN)) / np.array(RGB_STD)
    assert ours.dtype == np.float32
    assert np.abs(ours - theirs.transpose(0, 3, 1, 2)).max() < 1e-5


# The graph as a whole.


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_files_are_decoded_as_pillow_does(mode) -> None:
    from nvidia.dali import fn
    from nvidia.dali.pipeline import pipeline_def

    files, expected = [], []
    for image in photographs(4, 97, 3):
        file = io.BytesIO()
        Image.fromarray(image).convert(mode).save(file, "JPEG", quality=90)
        files.append(np.frombuffer(file.getvalue(), np.uint8))
        expected.append(np.asarray(Image.open(file)).reshape(97, 97, -1))

    @pipeline_def(batch_size=4, num_threads=2, device_id=None)
    def graph():
        encoded = fn.external_source(source=lambda: files, batch=True)
        return augment.decode(encoded, len(mode), "cpu")

    pipeline = graph()
    pipeline.build()
    (output,) = pipeline.run()
    assert error(np.asarray(output.as_array()), np.stack(expected))[1] <= 1
