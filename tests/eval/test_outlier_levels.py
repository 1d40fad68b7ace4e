"""Families of colour, brightness, blur and noise against colorsys, numpy and torchvision.

The parameters are read from the spoiled images, as in `test_outlier_families.py`.
"""

from __future__ import annotations

import colorsys
from itertools import permutations

import numpy as np
import pytest
import torch
from torchvision.transforms import functional

from tests.support.outlier_cases import noise_image, photo, spoil, which


def test_channels_come_in_each_other_order() -> None:
    image = photo(16, 20, 3)
    candidates = [np.dstack([image[..., c] for c in order]) for order in permutations(range(3))]
    found = {which(spoil("channels", image, seed), candidates) for seed in range(40)}
    assert found == {1, 2, 3, 4, 5}


def test_hue_turns_by_one_angle_and_keeps_saturation_and_value() -> None:
    image = noise_image(12, 12, 3, range(0, 256))
    before = hsv(image)
    vivid = before[:, 1] * before[:, 2] > 0.5  # others have a hue that 8 bits round too coarsely
    angles = []
    for seed in range(40):
        after = hsv(spoil("hue", image, seed))
        turns = np.exp(2j * np.pi * (after - before)[vivid, 0])
        angles.append(np.angle(turns.mean(), deg=True) % 360)
        np.testing.assert_allclose(np.angle(turns / turns.mean(), deg=True), 0, atol=4)
        np.testing.assert_allclose(after[vivid, 1:], before[vivid, 1:], atol=0.03)
    assert 59 <= min(angles) < 90 and 270 < max(angles) <= 301


def hsv(image: np.ndarray) -> np.ndarray:
    """Hue, saturation and value in 0..1, float64 [H W, 3]."""
    return np.array([colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3) / 255])


@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_draws_levels_towards_black_or_white(channels) -> None:
    image = photo(24, 17, channels).astype(float)
    factors = {0: [], 255: []}
    for seed in range(60):
        spoiled = spoil("brightness", image.astype(np.uint8), seed)
        towards = 0 if spoiled.mean() < image.mean() else 255
        factor = np.abs(spoiled - float(towards)).sum() / np.abs(image - towards).sum()
        expected = towards + factor * (image - towards)
        assert np.abs(spoiled - expected).max() < 0.8
        factors[towards].append(factor)
    for found in factors.values():
        assert 0.395 < min(found) < 0.46 and 0.64 < max(found) < 0.705


@pytest.mark.parametrize("channels", [1, 3])
def test_blur_is_that_of_torchvision(channels) -> None:
    height, width, pad = 24, 28, 9
    image = photo(height, width, channels)
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
    levels = torch.from_numpy(padded).movedim(2, 0).double()
    shares = np.arange(0.03, 0.0801, 0.001)
    blurred = [
        functional.gaussian_blur(levels, 17, share * height)[:, pad:-pad, pad:-pad]
        for share in shares
    ]
    found = []
    for seed in range(20):
        spoiled = torch.from_numpy(spoil("blur", image, seed)).movedim(2, 0)
        errors = [float((one - spoiled).abs().max()) for one in blurred]
        assert min(errors) < 1.5
        found.append(shares[np.argmin(errors)])
    assert min(found) < 0.04 and max(found) > 0.07


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_normal_and_differs_between_channels(channels) -> None:
    image = np.full((60, 70, channels), 128, np.uint8)
    stds = []
    for seed in range(30):
        added = spoil("noise", image, seed).astype(float) - image
        stds.append(added.std())
        assert abs(added.mean()) < 0.1 * stds[-1]
        # Shares of the normal distribution within 1 and 2 standard deviations.
        assert (np.abs(added) < stds[-1]).mean() == pytest.approx(0.683, abs=0.06)
        assert (np.abs(added) < 2 * stds[-1]).mean() == pytest.approx(0.954, abs=0.03)
        if channels == 3:
            assert np.abs(np.corrcoef(added.reshape(-1, 3).T) - np.eye(3)).max() < 0.1
    assert 9.5 < min(stds) < 15 and 35 < max(stds) < 41
