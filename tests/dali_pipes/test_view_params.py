"""The distributions of the drawn parameters, against torchvision's own draws."""

from __future__ import annotations

import dataclasses
import math
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chisquare, ks_2samp, kstest
from torchvision.transforms import ColorJitter, RandomResizedCrop

from dali_pipes.batch import ViewSpec
from dali_pipes.view_params import JITTER, ViewParams, draw_crops, draw_view_params

DRAWS = 20_000
ENOUGH = 1e-3
"""Smallest p-value at which two samples count as equally distributed; all seeds are fixed."""
SPEC = ViewSpec()
ALWAYS_JITTER = dataclasses.replace(SPEC, jitter_p=1.0)


def torchvision_crops(height, width, scale, ratio) -> np.ndarray:
    torch.manual_seed(0)
    image = torch.empty(1, height, width)
    return np.array([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(DRAWS)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (32, 32, SPEC.global_scale, SPEC.crop_ratio),
        (32, 32, SPEC.local_scale, SPEC.crop_ratio),
        (480, 640, (0.05, 0.4), SPEC.crop_ratio),
        (480, 640, (0.4, 1.0), (0.5, 1.0)),
        (100, 900, (0.15, 0.4), (3 / 4, 4 / 3)),  # many draws do not fit: the central crop
    ],
)
def test_crops_follow_torchvision(height, width, scale, ratio) -> None:
    start, shape = draw_crops(np.random.default_rng(0), (DRAWS,), (height, width), scale, ratio)
    theirs = torchvision_crops(height, width, scale, ratio)
    ours = np.concatenate([start, shape], axis=1)
    for name, of in {
        "top": lambda crop: crop[:, 0],
        "left": lambda crop: crop[:, 1],
        "height": lambda crop: crop[:, 2],
        "width": lambda crop: crop[:, 3],
        "area": lambda crop: crop[:, 2] * crop[:, 3],
        "log-ratio": lambda crop: np.log(crop[:, 3] / crop[:, 2]),
    }.items():
        assert ks_2samp(of(ours), of(theirs)).pvalue > ENOUGH, name


def test_crops_lie_inside_and_keep_their_limits() -> None:
    rng = np.random.default_rng(1)
    start, shape = draw_crops(rng, (DRAWS,), (28, 28), (0.15, 0.4), (3 / 4, 4 / 3))
    assert (start >= 0).all() and (start + shape <= 28).all() and (shape >= 1).all()
    area = shape.prod(1) / 28**2
    assert 0.13 < area.min() and area.max() < 0.43


def test_a_crop_that_cannot_fit_is_central() -> None:
    rng = np.random.default_rng(0)
    start, shape = draw_crops(rng, (5,), (10, 1000), (0.9, 1.0), (3 / 4, 4 / 3))
    assert (shape == (10, 13)).all() and (start == (0, 493)).all()


def drawn(
    kind: str, spec: ViewSpec = SPEC, seed: int = 0, shape: tuple[int, ...] = (DRAWS,)
) -> ViewParams:
    return draw_view_params(np.random.default_rng(seed), spec, kind, shape, (32, 32))


def happens(chosen: np.ndarray, probability: float) -> bool:
    """Return True if `chosen` is as frequent as `probability`; 0 and 1 must be exact."""
    count = int(np.count_nonzero(chosen))
    if probability in (0, 1):
        return count == probability * chosen.size
    return binomtest(count, chosen.size, probability).pvalue > ENOUGH


@pytest.mark.parametrize(
    ("kind", "blur", "solarize"),
    [("global-1", 1, 0), ("global-2", 0.1, 0.2), ("global-any", 0.55, 0.1), ("local", 0.5, 0)],
)
def test_probabilities_of_each_kind_of_view(kind, blur, solarize) -> None:
    params = drawn(kind)
    assert happens(params.blur_sigma_px > 0, blur)
    assert happens(params.solarize, solarize)
    assert happens(params.flip == 1, 0.5) and set(params.flip.tolist()) == {0, 1}
    assert happens(params.gray, 0.2)
    for name, neutral in (("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue_deg", 0)):
        assert happens(getattr(params, name) != neutral, 0.8), name


def test_jitter_is_all_or_nothing() -> None:
    params = drawn("local")
    changed = np.stack([params.brightness != 1, params.contrast != 1, params.saturation != 1])
    assert (changed == (params.hue_deg != 0)).all()


def test_a_negative_global_view_is_wholly_like_one_of_the_two() -> None:
    params = drawn("global-any")
    assert happens(params.solarize & (params.blur_sigma_px > 0), 0.5 * 0.2 * 0.1)


def test_jitter_follows_torchvision_and_hue_is_in_degrees() -> None:
    jitter = ColorJitter(SPEC.brightness, SPEC.contrast, SPEC.saturation, SPEC.hue_deg / 360)
    ranges = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    torch.manual_seed(0)
    theirs = np.array([ColorJitter.get_params(*ranges)[1:] for _ in range(DRAWS)])
    params = drawn("local", ALWAYS_JITTER)
    ours = (params.brightness, params.contrast, params.saturation, params.hue_deg)
    for name, values, expected in zip(JITTER, ours, theirs.T * [[1], [1], [1], [360]], strict=True):
        assert ks_2samp(values, expected).pvalue > ENOUGH, name
    assert 35.9 < params.hue_deg.max() <= 36 and -36 <= params.hue_deg.min() < -35.9


def test_each_jitter_order_is_as_likely() -> None:
    orders, counts = np.unique(drawn("local").jitter_order, axis=0, return_counts=True)
    assert [tuple(order) for order in orders.tolist()] == list(permutations(range(4)))
    assert chisquare(counts).pvalue > ENOUGH


@pytest.mark.parametrize("kind", ["global-1", "local"])
def test_blur_is_uniform_in_its_range(kind) -> None:
    sigma = drawn(kind).blur_sigma_px
    assert kstest(sigma[sigma > 0], "uniform", args=(0.1, 1.9)).pvalue > ENOUGH


def columns(params: ViewParams) -> np.ndarray:
    """Return all parameters as numbers: [parameters, *shape]."""
    return np.stack(
        [
            *np.moveaxis(params.crop_start, -1, 0),
            *np.moveaxis(params.crop_shape, -1, 0),
            params.flip,
            *(params.brightness, params.contrast, params.saturation, params.hue_deg),
            *np.moveaxis(params.jitter_order, -1, 0),
            *(params.gray, params.blur_sigma_px, params.solarize),
        ]
    ).astype(float)


TOLERANCE = 4.5 / math.sqrt(DRAWS)
"""Largest correlation of independent samples: 4.5 standard deviations."""


def test_parameters_are_independent_of_each_other() -> None:
    kinds = drawn("global-2", dataclasses.replace(ALWAYS_JITTER, blur_p=(0.5, 0.5, 0.5)))
    correlation = np.corrcoef(columns(kinds)) - np.eye(16)
    correlation[:4, :4] = 0  # a larger crop has less room to start in
    correlation[9:13, 9:13] = 0  # the places of an order exclude each other
    assert np.abs(correlation).max() < TOLERANCE


@pytest.mark.parametrize("axis", [0, 1])
def test_views_and_images_have_their_own_parameters(axis) -> None:
    """Parameters of neighbours along either axis are not correlated."""
    shape = (2, DRAWS) if axis == 0 else (DRAWS, 2)
    spec = dataclasses.replace(ALWAYS_JITTER, blur_p=(0.5, 0.5, 0.5))
    first, second = np.moveaxis(columns(drawn("global-2", spec, shape=shape)), axis + 1, 0)
    assert np.abs(np.corrcoef(first, second)[:16, 16:]).max() < TOLERANCE


def test_parameters_begin_with_their_shape_and_can_be_sliced() -> None:
    params = drawn("global-2", shape=(3, 5))
    for field in dataclasses.fields(ViewParams):
        values, tail = getattr(params, field.name), {"jitter_order": (4,)}
        expected = (2,) if field.name.startswith("crop") else tail.get(field.name, ())
        assert values.shape == (3, 5, *expected), field.name
        assert (getattr(params[1], field.name) == values[1]).all()
        assert (getattr(params[:, 2:4], field.name) == values[:, 2:4]).all()


def test_the_same_generator_draws_the_same() -> None:
    assert (columns(drawn("local", seed=3)) == columns(drawn("local", seed=3))).all()
    assert (columns(drawn("local", seed=3)) != columns(drawn("local", seed=4))).any()
