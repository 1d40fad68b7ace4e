"""Resizing against Pillow and torchvision."""

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from shards.resize import RESIZES, BadImage, fit, to_image, to_pixels
from tests.shard_cases import random_images


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_an_image_and_back(channels: int) -> None:
    pixels = random_images(1, size_px=9, channels=channels)[0, :5]
    image = to_image(pixels)
    assert (image.mode, image.size) == ("L" if channels == 1 else "RGB", (9, 5))
    assert np.array_equal(np.asarray(image).reshape(5, 9, channels), pixels)
    assert np.array_equal(to_pixels(image), pixels)


@pytest.mark.parametrize("shape", [(40, 53), (53, 40), (40, 40), (20, 33), (31, 97), (33, 200)])
def test_rules_are_pillows_and_torchvisions(shape: tuple[int, int]) -> None:
    image = to_image(random_images(1, size_px=200)[0, : shape[0], : shape[1]])
    bilinear = InterpolationMode.BILINEAR
    expected = {
        "pillow-bicubic": image.resize((32, 32), Image.Resampling.BICUBIC),
        "pillow-bilinear": transforms.Resize((32, 32), bilinear)(image),
        "pillow-bilinear-crop": transforms.CenterCrop(32)(transforms.Resize(32, bilinear)(image)),
    }
    assert set(expected) == set(RESIZES)
    for rule, resized in expected.items():
        assert np.array_equal(np.asarray(fit(image, 32, rule)), np.asarray(resized)), rule


def test_a_thin_image_is_not_blown_up() -> None:
    image = Image.new("L", (1, 300_000))
    with pytest.raises(BadImage, match="larger than 89478485 pixels when resized: 224 x 67200000"):
        fit(image, 224, "pillow-bilinear-crop")


@pytest.mark.parametrize("rule", RESIZES)
def test_the_right_size_is_left_alone(rule) -> None:
    image = to_image(random_images(1, size_px=9)[0])
    assert fit(image, 9, rule) is image
