"""Resizing gives what Pillow and torchvision give."""

import numpy as np
import pytest
from PIL import Image, ImageOps
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from shards.format.source_sizes import shape_note
from shards.pixels.resize import RESIZES, BadImage, fit, to_image, to_pixels
from tests.support.shard_cases import random_images


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
    expected = {}
    for name in ("bicubic", "bilinear"):
        mode = InterpolationMode(name)
        expected[f"pillow-{name}"] = transforms.Resize((32, 32), mode)(image)
        shorter = transforms.Resize(32, mode)(image)
        expected[f"pillow-{name}-crop"] = transforms.CenterCrop(32)(shorter)
        expected[f"pillow-{name}-pad"] = ImageOps.pad(
            image, (32, 32), Image.Resampling[name.upper()], color="#204060"
        )
    assert set(expected) == set(RESIZES)
    for rule, resized in expected.items():
        found = np.asarray(fit(image, 32, rule, "#204060"))
        if rule.endswith("-pad"):  # Pillow puts the odd pixel of a margin on the other side.
            found = trimmed(found, (32, 64, 96))
            resized = trimmed(np.asarray(resized), (32, 64, 96))
        assert np.array_equal(found, np.asarray(resized)), rule


def trimmed(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Return an image without its margins of one colour, which must be equally wide."""
    rows, columns = np.nonzero((pixels != colour).any(-1))
    assert abs(rows[0] - (len(pixels) - 1 - rows[-1])) <= 1
    assert abs(columns.min() - (len(pixels) - 1 - columns.max())) <= 1
    return pixels[rows[0] : rows[-1] + 1, columns.min() : columns.max() + 1]


@pytest.mark.parametrize(("shape", "content"), [((40, 80), (16, 32)), ((1, 300), (1, 32))])
def test_a_padded_image_has_margins_of_the_background(shape, content) -> None:
    white = Image.new("L", shape[::-1], 255)
    found = np.asarray(fit(white, 32, "pillow-bicubic-pad", "#102030"))
    is_margin = np.ones((32, 32), bool)
    top = (32 - content[0]) // 2
    is_margin[top : top + content[0]] = False
    gray = Image.new("RGB", (1, 1), "#102030").convert("L").getpixel((0, 0))
    assert np.array_equal(found, np.where(is_margin, gray, 255))


def test_what_a_rule_did_is_told() -> None:
    sizes = np.array([[10, 10], [10, 20], [40, 10], [30, 20]])
    squashed = shape_note(sizes, "pillow-bicubic")
    assert squashed.startswith(
        "3 of 4 images are not square and were squashed, by a factor of 2.00"
    )
    assert "4.00 at most" in squashed and "--fit" in squashed
    assert "50% of their area in the median, 75% at most" in shape_note(
        sizes, "pillow-bilinear-pad"
    )
    assert "middle square: 50%" in shape_note(sizes, "pillow-bilinear-crop")
    assert shape_note(sizes[:1], "pillow-bicubic") == ""


def test_a_thin_image_is_not_blown_up() -> None:
    image = Image.new("L", (1, 300_000))
    with pytest.raises(BadImage, match="larger than 89478485 pixels when resized: 224 x 67200000"):
        fit(image, 224, "pillow-bilinear-crop")


@pytest.mark.parametrize("rule", RESIZES)
def test_the_right_size_is_left_alone(rule) -> None:
    image = to_image(random_images(1, size_px=9)[0])
    assert fit(image, 9, rule) is image
