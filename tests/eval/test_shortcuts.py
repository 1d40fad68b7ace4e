"""Trivial statistics against plain loops over pixels, and sets that they must or must not tell."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageStat
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from eval.audits.shortcuts import STATISTICS, audit, is_shortcut, statistics, tell_apart
from eval.features.in_memory import ImagesInMemory
from eval.intervals import Interval
from shards.build import build
from shards.reader import ShardSet
from tests.support.image_sets import photographs, smooth_images
from tests.support.shard_cases import folder_request

SIDE_PX = 32


class Images(ImagesInMemory):
    """Images in memory, as a shard set that may know the sizes in the source."""

    def __init__(self, images: np.ndarray, sizes: np.ndarray | None = None) -> None:
        super().__init__(images)
        self.sizes = sizes

    def source_sizes(self, ids: np.ndarray) -> np.ndarray | None:
        return None if self.sizes is None else self.sizes[ids]


def luma(image: np.ndarray) -> np.ndarray:
    """Float64 [H, W] of uint8 [H, W, C]."""
    if image.shape[2] == 1:
        return image[..., 0].astype(np.float64)
    return 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]


def means(image: np.ndarray) -> list[float]:
    return ImageStat.Stat(Image.fromarray(image)).mean


def border(image: np.ndarray, level: int) -> float:
    height, width = image.shape[:2]
    marked = [
        (image[i, j] == level).all()
        for i in range(height)
        for j in range(width)
        if i in (0, height - 1) or j in (0, width - 1)
    ]
    return sum(marked) / len(marked)


def high_share(image: np.ndarray) -> float:
    """Sum over the whole plane of frequencies, one by one."""
    y = luma(image)
    height, width = y.shape
    hann = [0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / (n - 1)) for n in (height, width)]
    energy = np.abs(np.fft.fft2((y - y.mean()) * np.outer(*hann))) ** 2
    high = sum(
        energy[i, j]
        for i in range(height)
        for j in range(width)
        if min(i, height - i) / height >= 0.25 or min(j, width - j) / width >= 0.25
    )
    return high / energy.sum() if energy.sum() else 0.0


def zeros(block: np.ndarray) -> float:
    """Share of zero coefficients of one block, by the definition of the cosine transform."""
    n = np.arange(8)
    basis = np.cos(np.pi * (2 * n[None] + 1) * n[:, None] / 16) / 2
    basis[0] /= np.sqrt(2)
    return float((np.abs(basis @ block @ basis.T) < 1).mean())


def grid(image: np.ndarray) -> float:
    y = luma(image)
    found = []
    for i in range(0, y.shape[0] - 15, 8):
        for j in range(0, y.shape[1] - 15, 8):
            four = [zeros(y[a : a + 8, b : b + 8]) for a in (i, i + 8) for b in (j, j + 8)]
            found.append(np.mean(four) - zeros(y[i + 4 : i + 12, j + 4 : j + 12]))
    return float(np.mean(found))


REFERENCES = {
    "brightness": lambda image: luma(image).mean(),
    "contrast": lambda image: luma(image).std(),
    "sharpness": lambda image: ndimage.laplace(luma(image))[1:-1, 1:-1].var(),
    "high-frequencies": high_share,
    "jpeg-grid": grid,
    "red-green": lambda image: means(image)[0] - means(image)[1],
    "yellow-blue": lambda image: (means(image)[0] + means(image)[1]) / 2 - means(image)[2],
    "saturation": lambda image: np.ptp(image.astype(int), axis=2).mean(),
    "black-border": lambda image: border(image, 0),
    "white-border": lambda image: border(image, 255),
}


def pictures(channels: int, height: int, width: int) -> np.ndarray:
    """Photographs, a flat image, pure black, and noise with black and white at the border."""
    noise = np.random.default_rng(3).integers(0, 256, (2, height, width, channels), dtype=np.uint8)
    noise[:, 0, :9], noise[:, -1, 3:10], noise[:, :5, -1] = 0, 255, 255
    flat = np.stack([np.full((height, width, channels), level, np.uint8) for level in (0, 77)])
    photos = photographs(3, max(height, width), channels)[:, :height, :width]
    return np.concatenate([photos, noise, flat])


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 32, 32), (3, 27, 40), (1, 28, 28)])
def test_each_statistic_is_what_a_plain_loop_gives(channels, height, width) -> None:
    images = pictures(channels, height, width)
    found = statistics(Images(images))
    colours = {"red-green", "yellow-blue", "saturation"}
    of_source = {"original-size", "original-aspect"}
    assert set(found) == set(STATISTICS) - of_source - (colours if channels == 1 else set())
    for key, values in found.items():
        expected = [REFERENCES[key](image) for image in images]
        np.testing.assert_allclose(values, expected, rtol=2e-5, atol=2e-5, err_msg=key)


def test_every_image_gets_its_own_value_whatever_the_chunks(monkeypatch) -> None:
    images = smooth_images(50, 16, 3, seed=1)
    whole = statistics(Images(images))
    monkeypatch.setattr("eval.audits.shortcuts.CHUNK_BYTES", 7 * images[0].nbytes)
    for key, values in statistics(Images(images)).items():
        np.testing.assert_allclose(values, whole[key], rtol=1e-6, atol=1e-6)
        alone = statistics(Images(images[[33]]))[key]
        np.testing.assert_allclose(alone, values[33:34], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(15, 40), (40, 15)])
def test_images_without_four_blocks_have_no_grid(height, width) -> None:
    assert "jpeg-grid" not in statistics(Images(pictures(3, height, width)))


def halves(channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Two samples of one distribution: uint8 [150, 32, 32, channels]."""
    images = photographs(300, SIDE_PX, channels)
    images = images[np.random.default_rng(0).permutation(300)]
    return images[:150], images[150:]


def as_jpeg(image: np.ndarray) -> np.ndarray:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=75)
    return np.asarray(Image.open(data))


def enlarged(image: np.ndarray) -> np.ndarray:
    side = SIDE_PX // 2
    return np.asarray(
        Image.fromarray(image).resize((side, side)).resize((SIDE_PX, SIDE_PX), Image.BICUBIC)
    )


def as_gray(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).convert("L").convert("RGB"))


def darker(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).point(lambda level: level // 3))


def framed(image: np.ndarray) -> np.ndarray:
    return np.pad(image[1:-1, 1:-1], ((1, 1), (1, 1), (0, 0)))


@pytest.mark.parametrize(
    ("change", "told_by"),
    [
        (as_jpeg, "jpeg-grid"),
        (enlarged, "high-frequencies"),
        (as_gray, "saturation"),
        (darker, "brightness"),
        (framed, "black-border"),
    ],
)
def test_a_changed_copy_is_told_apart_by_what_was_changed(change, told_by) -> None:
    in_dist, ood = halves()
    changed = np.stack([change(image) for image in ood])
    found = audit(Images(in_dist), {"changed": Images(changed)})["changed"]
    assert is_shortcut(found[told_by], 1.0)
    colours_of_light = {"jpeg-grid", "saturation", "black-border"}
    for key in colours_of_light - {told_by}:
        assert not is_shortcut(found[key], 0.95), key


def test_samples_of_one_distribution_are_not_told_apart() -> None:
    in_dist, ood = halves()
    found = audit(Images(in_dist), {"same": Images(ood)})
    assert max(statistic.value for statistic in found["same"].values()) < 0.7
    assert tell_apart(found, {"same": 0.8}) == []


@pytest.mark.parametrize("brighter", [True, False])
def test_the_auroc_is_that_of_the_better_direction(brighter) -> None:
    images = smooth_images(120, 16, 3, seed=5) // 2
    dark, light = images[:60], images[60:] + np.uint8(5)
    in_dist, ood = (dark, light) if brighter else (light, dark)
    found = audit(Images(in_dist), {"other": Images(ood)})["other"]["brightness"]
    values = [float(luma(image).mean()) for image in np.concatenate([in_dist, ood])]
    one_way = roc_auc_score(np.arange(120) >= 60, values)
    assert (one_way > 0.5) == brighter
    assert found.value == pytest.approx(max(one_way, 1 - one_way), abs=1e-12)
    assert found.low < found.value < found.high


def better_way(in_dist: list[float], ood: list[float]) -> float:
    one_way = roc_auc_score([0] * len(in_dist) + [1] * len(ood), in_dist + ood)
    return max(one_way, 1 - one_way)


def test_original_sizes_of_shard_sets_tell_as_those_of_their_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    sizes, sets = {}, {}
    for name, lowest in (("in-dist", 20), ("larger", 27), ("wider", 20)):
        (tmp_path / name).mkdir()
        for i in range(20):
            height, width = rng.integers(lowest, 33, 2).tolist()
            height -= 6 * (name == "wider")
            image = Image.new("L", (width, height))
            image.save(tmp_path / name / f"{i}.png")
            sizes.setdefault(name, []).append(image.size)
        build(folder_request(tmp_path / name, tmp_path / "sets" / name))
        sets[name] = ShardSet.open(tmp_path / "sets" / name)
    found = audit(sets["in-dist"], {name: sets[name] for name in ("larger", "wider")})
    for opened in sets.values():
        opened.close()
    functions = {
        "original-size": lambda w, h: (w * h) ** 0.5,
        "original-aspect": lambda w, h: w / h,
    }
    for name in ("larger", "wider"):
        for key, function in functions.items():
            values = [[function(*size) for size in sizes[one]] for one in ("in-dist", name)]
            assert found[name][key].value == pytest.approx(better_way(*values), abs=1e-12)
    assert found["larger"]["original-size"].value > 0.7
    assert found["wider"]["original-aspect"].value > 0.8


def test_original_sizes_are_left_out_where_one_side_does_not_know_them(monkeypatch) -> None:
    images = smooth_images(10, 16, 3, seed=2)
    monkeypatch.setattr("eval.audits.shortcuts.CHUNK_BYTES", 3 * images[0].nbytes)
    sizes = np.stack([np.arange(100, 110), np.full(10, 50)], axis=1)
    knows = Images(images, sizes)
    others = {
        "knows": Images(images[:4], sizes[[9, 8, 9, 7]]),
        "nobody-noted": Images(images),
    }
    of_source = {"original-size", "original-aspect"}
    found = audit(knows, others)
    assert {name: set(found[name]) & of_source for name in found} == {
        "knows": of_source,
        "nobody-noted": set(),
    }
    areas = [list(np.sqrt(50 * np.arange(100, 110))), list(np.sqrt([5450, 5400, 5450, 5350]))]
    expected = pytest.approx(better_way(*areas), abs=1e-12)
    assert found["knows"]["original-size"].value == expected
    assert found["knows"]["original-aspect"].value == expected
    assert not set(audit(Images(images), others)["knows"]) & of_source


def interval(value: float, low: float) -> Interval:
    return Interval(value, low, min(1.0, 2 * value - low))


@pytest.mark.parametrize(
    ("value", "low", "detector", "expected"),
    [
        (0.93, 0.9, 0.99, True),
        (0.9, 0.85, 0.99, True),
        (0.899, 0.85, 0.9, False),
        (0.8, 0.7, 0.8, True),  # as good as the detector
        (0.55, 0.49, 0.5, False),  # both may be chance
        (1.0, 0.29, 1.0, False),  # of three images
    ],
)
def test_what_is_a_shortcut(value, low, detector, expected) -> None:
    assert is_shortcut(interval(value, low), detector) == expected


def test_a_warning_names_statistic_sets_and_both_aurocs() -> None:
    shortcuts = {
        "svhn": {"contrast": interval(0.91, 0.8), "brightness": interval(0.934, 0.9)},
        "dtd": {"contrast": interval(0.7, 0.6), "brightness": interval(0.6, 0.5)},
        "lsun": {"brightness": interval(0.95, 0.9)},
        "stl": {"contrast": interval(0.92, 0.9)},
    }
    told = tell_apart(shortcuts, {"svhn": 0.99, "dtd": 0.8, "lsun": 0.9, "stl": 0.97})
    assert all(one.weighs for one in told)
    assert [one.text for one in told] == [
        "Sets can be told apart by mean brightness alone, which may come from the light of the "
        "scene, or the exposure; AUROC (the detector's): lsun 95.0 % (90.0 %), "
        "svhn 93.4 % (99.0 %)",
        "Sets can be told apart by contrast alone, which may come from the light of the scene, "
        "or the exposure; AUROC (the detector's): stl 92.0 % (97.0 %)",
    ]


def test_a_statistic_near_chance_says_that_the_detector_is_no_better() -> None:
    shortcuts = {
        "dtd": {"contrast": interval(0.579, 0.55)},
        "lsun": {"contrast": interval(0.71, 0.68)},
        "svhn": {"contrast": interval(0.92, 0.9)},
    }
    told = tell_apart(shortcuts, {"svhn": 0.99, "dtd": 0.57, "lsun": 0.7})
    assert [(one.value, one.weighs) for one in told] == [(0.92, True), (0.579, False)]
    assert told[0].text.endswith("svhn 92.0 % (99.0 %), lsun 71.0 % (70.0 %)")
    assert told[1].text == (
        "The detector is no better than contrast alone, and both are weak; AUROC (the "
        "detector's): dtd 57.9 % (57.0 %)"
    )


@pytest.mark.parametrize(
    ("contrast", "named"),
    [(0.92, "contrast"), (0.7, "original size")],
)
def test_the_original_size_is_named_where_nothing_that_is_seen_tells(contrast, named) -> None:
    shortcuts = {
        "svhn": {"contrast": interval(contrast, 0.6), "original-size": interval(0.99, 0.98)},
        "dtd": {"contrast": interval(0.55, 0.5), "original-size": interval(0.5, 0.5)},
    }
    (told,) = tell_apart(shortcuts, {"svhn": 0.95, "dtd": 0.8})
    assert told.text.startswith(f"Sets can be told apart by {named} alone, ")
    assert "svhn" in told.text and "dtd" not in told.text
