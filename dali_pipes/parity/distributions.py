"""The comparison of the distributions of our drawn parameters with torchvision's draws.

Two samples are compared with the Kolmogorov-Smirnov test. For whole numbers, such as the crops of
small images or places in an order, the test is conservative: its p-values may be too large, but not
too small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
import torch
from scipy.stats import binomtest, chisquare, ks_2samp
from torchvision.transforms import (  # type: ignore[import-untyped]
    ColorJitter,
    GaussianBlur,
    RandomResizedCrop,
)

from dali_pipes.batch import ViewSpec
from dali_pipes.view_params import JITTER, ViewKind, ViewParams, draw_crops, draw_view_params

LEAST_P = 1e-3
"""The smallest p-value that passes. The seed is fixed, so a comparison that passed once will pass
every time."""


@dataclass(frozen=True)
class Distribution:
    """The comparison of our distribution of one drawn quantity with torchvision's."""

    quantity: str
    ours: float
    """The mean of our draws; for an operation that is applied or not, its share in our draws."""
    theirs: float
    """The value with which `ours` is compared: the mean of torchvision's draws, or the probability
    that the options ask for."""
    test: str
    """The name of the statistical test."""
    statistic: float
    """The statistic of the test; for the binomial test, the distance between `ours` and `theirs`.
    """
    p: float
    """The p-value of the test: small if the distributions differ."""

    @property
    def passed(self) -> bool:
        """True if the test does not show that the two distributions differ."""
        return self.p >= LEAST_P


def compare_distributions(draws: int, seed: int) -> list[Distribution]:
    """Compare the distributions of all random parameters with torchvision's.

    Args:
        draws: The number of draws per distribution.
        seed: The seed of our draws and of torchvision's draws.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    spec = ViewSpec()
    found = []
    for side_px in (32, 256):
        for kind, scale in (("global", spec.global_scale), ("local", spec.local_scale)):
            found += _crops(rng, f"{side_px} px, {kind}", side_px, scale, spec.crop_ratio, draws)
    found += _jitter(rng, spec, draws)
    found += _blur(rng, spec, draws)
    kinds: tuple[ViewKind, ...] = ("global-1", "global-2", "global-any", "local")
    for kind in kinds:
        found += _probabilities(kind, draw_view_params(rng, spec, kind, (draws,), (32, 32)), spec)
    return found


def _alike(quantity: str, ours: np.ndarray, theirs: np.ndarray) -> Distribution:
    result = ks_2samp(ours, theirs)
    means = float(ours.mean()), float(theirs.mean())
    return Distribution(quantity, *means, "K-S", float(result.statistic), float(result.pvalue))


def _happens(quantity: str, chosen: np.ndarray, probability: float) -> Distribution:
    count = int(np.count_nonzero(chosen))
    p = float(binomtest(count, chosen.size, probability).pvalue)
    share = count / chosen.size
    return Distribution(quantity, share, probability, "binomial", abs(share - probability), p)


def _crops(
    rng: np.random.Generator,
    where: str,
    side_px: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    draws: int,
) -> list[Distribution]:
    start, shape = draw_crops(rng, (draws,), (side_px, side_px), scale, ratio)
    image = torch.empty(1, side_px, side_px)
    limits = list(scale), list(ratio)
    theirs = np.array([RandomResizedCrop.get_params(image, *limits) for _ in range(draws)])
    crops = np.concatenate([start, shape], axis=1), theirs
    return [
        _alike(f"crop {name} ({where})", *(of(*crop.T) for crop in crops))
        for name, of in (
            ("area", lambda top, left, height, width: height * width / side_px**2),
            ("log-ratio", lambda top, left, height, width: np.log(width / height)),
            ("top", lambda top, left, height, width: top),
            ("left", lambda top, left, height, width: left),
        )
    ]


def _jitter(rng: np.random.Generator, spec: ViewSpec, draws: int) -> list[Distribution]:
    always = replace(spec, jitter_p=1.0)
    params = draw_view_params(rng, always, "local", (draws,), (32, 32))
    jitter = ColorJitter(spec.brightness, spec.contrast, spec.saturation, spec.hue_deg / 360)
    ranges = jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue
    expected = [ColorJitter.get_params(*ranges) for _ in range(draws)]
    theirs = np.array([factors for _, *factors in expected]).T * [[1], [1], [1], [360]]
    ours = params.brightness, params.contrast, params.saturation, params.hue_deg
    found = [
        _alike(f"{name}{', degrees' * (name == 'hue')}", *values)
        for name, *values in zip(JITTER, ours, theirs, strict=True)
    ]
    orders = np.stack([order.numpy() for order, *_ in expected])
    for place, name in enumerate(JITTER):
        places = (params.jitter_order == place).argmax(1), (orders == place).argmax(1)
        found.append(_alike(f"place of {name} in the order", *places))
    number = {order: i for i, order in enumerate(permutations(range(4)))}
    counts = np.bincount([number[tuple(order)] for order in params.jitter_order.tolist()])
    result = chisquare(np.pad(counts, (0, len(number) - len(counts))))
    share = float(counts.max() / draws)
    return [
        *found,
        Distribution(
            "most frequent of the 24 orders",
            share,
            1 / math.factorial(4),
            "chi-square",
            float(result.statistic),
            float(result.pvalue),
        ),
    ]


def _blur(rng: np.random.Generator, spec: ViewSpec, draws: int) -> list[Distribution]:
    sigma = draw_view_params(rng, spec, "global-1", (draws,), (32, 32)).blur_sigma_px
    theirs = [GaussianBlur.get_params(*spec.blur_sigma_px) for _ in range(draws)]
    return [_alike("blur sigma, px", sigma, np.array(theirs))]


def _probabilities(kind: ViewKind, params: ViewParams, spec: ViewSpec) -> list[Distribution]:
    first, second, local = spec.blur_p
    blur_p, solarize_p = {
        "global-1": (first, 0.0),
        "global-2": (second, spec.solarize_p),
        "global-any": ((first + second) / 2, spec.solarize_p / 2),
        "local": (local, 0.0),
    }[kind]
    return [
        _happens(f"{name} ({kind})", chosen, probability)
        for name, chosen, probability in (
            ("flip", params.flip == 1, spec.flip_p),
            ("jitter", params.brightness != 1, spec.jitter_p),
            ("gray", params.gray, spec.gray_p),
            ("blur", params.blur_sigma_px > 0, blur_p),
            ("solarize", params.solarize, solarize_p),
        )
    ]
