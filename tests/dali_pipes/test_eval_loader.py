"""The evaluation loader against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from dali_pipes.batch import RGB_MEAN, RGB_STD
from dali_pipes.eval_loader import EvalLoader

CPU = torch.device("cpu")


def levels(views: torch.Tensor) -> np.ndarray:
    """Return rounded levels [B, s, s, 3] in 0..255 of images [B, 3, s, s]."""
    return np.rint(views.movedim(1, -1).numpy() * np.array(RGB_STD) + np.array(RGB_MEAN))


@pytest.mark.parametrize("crop_px", [28, 48])
def test_evaluation_gives_each_image_once_in_order(gray_set, crop_px) -> None:
    ids, images = zip(*EvalLoader(gray_set, crop_px, batch=50, device=CPU), strict=True)
    assert [len(part) for part in ids] == [50, 50, 20]
    assert torch.cat(ids).tolist() == list(range(120))
    size = (crop_px, crop_px)
    expected = np.stack(
        [
            np.asarray(Image.fromarray(image[..., 0]).resize(size, Image.Resampling.BICUBIC))
            for image in gray_set.read(np.arange(120))
        ]
    )
    ours = levels(torch.cat(images))
    assert np.abs(ours - expected[..., None]).mean() < 0.5
    assert np.abs(ours - expected[..., None]).max() <= 8


def test_evaluation_can_be_repeated(gray_set) -> None:
    loader = EvalLoader(gray_set, 28, batch=64, device=CPU)
    first, second = ([images for _, images in loader] for _ in range(2))
    assert len(loader) == 2 and all(map(torch.equal, first, second))
