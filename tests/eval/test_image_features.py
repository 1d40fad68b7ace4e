"""The features of images that need no network, against numpy and Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import convolve

from eval.features.image_features import ColourHistogram, Pixels, Statistics
from tests.support.image_sets import smooth_images


def images(channels: int, side: int = 20) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (4, side, side, channels), dtype=np.uint8)
    return np.concatenate(
        [noise, smooth_images(5, side, channels, seed=1).reshape(-1, *noise.shape[1:])]
    )


def found(module: torch.nn.Module, pictures: np.ndarray) -> np.ndarray:
    features = module(torch.from_numpy(pictures))
    assert features.dtype == torch.float32
    return features.numpy()


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_the_levels(channels) -> None:
    pictures = images(channels)
    np.testing.assert_array_equal(
        found(Pixels(), pictures), pictures.reshape(9, -1).astype(np.float32) / 255
    )


def test_pixels_of_large_images_are_means_of_equal_areas() -> None:
    pictures = images(3, side=64)
    expected = pictures.reshape(9, 32, 2, 32, 2, 3).mean((2, 4)) / 255
    np.testing.assert_allclose(found(Pixels(), pictures), expected.reshape(9, -1), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_histogram_is_numpys(channels) -> None:
    pictures = images(channels)
    edges = [np.linspace(0, 256, 33 if channels == 1 else 9)] * channels
    expected = [np.histogramdd(p.reshape(-1, channels), edges)[0].ravel() / 400 for p in pictures]
    np.testing.assert_allclose(found(ColourHistogram(), pictures), expected, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_statistics_are_numpys(channels) -> None:
    pictures = images(channels)
    laplacian = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    expected = []
    for picture in pictures:
        luma = picture[..., 0] if channels == 1 else picture @ np.array([0.299, 0.587, 0.114])
        edges = np.abs(convolve(luma.astype(np.float64), laplacian)[1:-1, 1:-1])
        of_edges = np.log1p([edges.max(), np.quantile(edges, 0.99), edges.mean()])
        expected.append([*of_edges, luma.mean(), luma.std()])
    np.testing.assert_allclose(found(Statistics(), pictures), expected, rtol=1e-5)
    gray = np.array(Image.fromarray(pictures[0].squeeze()).convert("L"), np.float64)
    assert found(Statistics(), pictures)[0, 3] == pytest.approx(gray.mean(), abs=0.5)
