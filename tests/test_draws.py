"""The laws of the drawn parameters, against torchvision's own draws."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest
from torchvision.transforms import RandomResizedCrop

from dali_pipes.batch import ViewSpec
from dali_pipes.draws import draw_crop, draw_view

DRAWS = 4000
SPEC = ViewSpec()


def torchvision_crops(height, width, scale, ratio) -> np.ndarray:
    torch.manual_seed(0)
    image = torch.empty(1, height, width)
    return np.array([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(DRAWS)])


@pytest.mark.parametrize("scale", [(0.4, 1.0), (0.15, 0.4), (0.05, 0.4)])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (480, 640), (100, 900)])
@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (0.5, 1.0)])
def test_crops_follow_torchvision(scale, height, width, ratio) -> None:
    start, shape = draw_crop(np.random.default_rng(0), DRAWS, (height, width), scale, ratio)
    theirs = torchvision_crops(height, width, scale, ratio)
    ours = np.concatenate([start, shape], axis=1)
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3, column
    area = ks_2samp(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3])
    assert area.pvalue > 1e-3


def test_crops_lie_inside_and_keep_their_limits() -> None:
    rng = np.random.default_rng(1)
    start, shape = draw_crop(rng, DRAWS, (28, 28), (0.15, 0.4), (3 / 4, 4 / 3))
    assert (start >= 0).all() and (start + shape <= 28).all() and (shape >= 1).all()
    area = shape.prod(1) / 28**2
    assert 0.13 < area.min() and area.max() < 0.43


def test_a_crop_that_cannot_fit_is_central() -> None:
    start, shape = draw_crop(np.random.default_rng(0), 5, (10, 1000), (0.9, 1.0), (3 / 4, 4 / 3))
    assert (shape == (10, 13)).all() and (start == (0, 493)).all()


def draw(kind: str, spec: ViewSpec = SPEC, seed: int = 0):
    return draw_view(np.random.default_rng(seed), spec, kind, DRAWS, (32, 32))


def share(chosen: np.ndarray) -> float:
    return float(np.mean(chosen))


@pytest.mark.parametrize(
    ("kind", "blur", "solarize"),
    [("global-1", 1.0, 0.0), ("global-2", 0.1, 0.2), ("global-any", 0.55, 0.1), ("local", 0.5, 0)],
)
def test_probabilities_of_each_kind_of_view(kind, blur, solarize) -> None:
    drawn = draw(kind)
    assert share(drawn.blur_sigma_px > 0) == pytest.approx(blur, abs=0.025)
    assert share(drawn.solarize) == pytest.approx(solarize, abs=0.025)
    assert share(drawn.flip) == pytest.approx(0.5, abs=0.025)
    assert share(drawn.saturation == 0) == pytest.approx(0.2, abs=0.025)
    assert share(drawn.brightness == 1) == pytest.approx(0.2, abs=0.025)


def test_a_negative_global_view_is_wholly_like_one_of_the_two() -> None:
    drawn = draw("global-any")
    assert share(drawn.solarize & (drawn.blur_sigma_px > 0)) == pytest.approx(0.01, abs=0.006)


def test_jitter_is_uniform_in_its_range_and_hue_is_in_degrees() -> None:
    drawn = draw("local", dataclasses.replace(SPEC, jitter_p=1.0, gray_p=0.0))
    ranges = {
        "brightness": (0.6, 1.4),
        "contrast": (0.6, 1.4),
        "saturation": (0.8, 1.2),
        "hue_deg": (-36, 36),
    }
    for name, (low, high) in ranges.items():
        values = getattr(drawn, name)
        assert kstest(values, "uniform", args=(low, high - low)).pvalue > 1e-3, name


def test_blur_is_uniform_in_its_range() -> None:
    sigma = draw("global-1").blur_sigma_px
    assert kstest(sigma, "uniform", args=(0.1, 1.9)).pvalue > 1e-3


def test_parameters_are_independent_of_each_other() -> None:
    drawn = draw("global-1", dataclasses.replace(SPEC, jitter_p=1.0, gray_p=0.0))
    values = np.stack(
        [drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue_deg, drawn.flip]
        + [drawn.crop_start[:, 0], drawn.crop_shape[:, 0], drawn.blur_sigma_px]
    )
    correlation = np.corrcoef(values) - np.eye(len(values))
    correlation[5, 6] = correlation[6, 5] = 0  # a larger crop has less room to start in
    assert np.abs(correlation).max() < 0.07
