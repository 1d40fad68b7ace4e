"""The two forms of the shifting transformations, against numpy, Pillow and scipy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import chisquare, kstest

from dali_pipes.batch import RGB_MEAN, RGB_STD
from dali_pipes.shifts.strong_blur import BLUR_MOST_PX, BLUR_SIGMA
from dali_pipes.shifts.table import SHIFTS, shift_named
from shards.errors import UserError
from tests.support.image_sets import smooth_images
from tests.support.view_cases import run_graph

SIDE_PX = 24
NAMES = [*SHIFTS, "perm-4", "perm-9", "perm-16"]
RANDOM = [name for name in NAMES if name != "aux"]

Row = dict[str, np.ndarray]


def swapped_halves(image: np.ndarray, row: Row) -> np.ndarray:
    half = len(image) // 2
    by = {(2, 3, 0, 1): (half, 0), (1, 0, 3, 2): (0, half), (3, 2, 1, 0): (half, half)}
    return np.roll(image, by[tuple(row["order"].tolist())], axis=(0, 1))


def turned_by_pillow(image: np.ndarray, row: Row) -> np.ndarray:
    turned = Image.fromarray(np.squeeze(image)).rotate(float(row["angle_deg"]))
    return np.asarray(turned).reshape(image.shape)


def blurred_by_scipy(image: np.ndarray, row: Row) -> np.ndarray:
    sigma = float(row["sigma_px"])
    reach = int(np.ceil(3 * sigma))
    return gaussian_filter(
        image.astype(np.float64), (sigma, sigma, 0), mode="mirror", radius=(reach, reach, 0)
    )


def permuted_squares(image: np.ndarray, row: Row) -> np.ndarray:
    grid = round(len(row["order"]) ** 0.5)
    px = len(image) // grid
    squares = [
        image[top : top + px, left : left + px]
        for top in range(0, grid * px, px)
        for left in range(0, grid * px, px)
    ]
    rows = [row["order"][start : start + grid] for start in range(0, grid * grid, grid)]
    return np.vstack([np.hstack([squares[i] for i in numbers]) for numbers in rows])


def permuted_pixels(image: np.ndarray, row: Row) -> np.ndarray:
    return image.reshape(-1, image.shape[-1])[row["order"]].reshape(image.shape)


REFERENCES: dict[str, Callable[[np.ndarray, Row], np.ndarray]] = {
    "aux": lambda image, row: image,
    "rot": lambda image, row: np.rot90(image, row["turns"]),
    "rot90x4": lambda image, row: np.rot90(image, row["turns"]),
    "rot-any": turned_by_pillow,
    "rot-any-early": turned_by_pillow,
    "pixperm": permuted_pixels,
    "cutperm": swapped_halves,
    "blur": blurred_by_scipy,
    "perm-4": permuted_squares,
    "perm-9": permuted_squares,
    "perm-16": permuted_squares,
}


def pictures(channels: int, count: int = 20, side_px: int = SIDE_PX) -> np.ndarray:
    """Return random pictures: uint8 [B, s, s, C]."""
    images = smooth_images(count, side_px, channels, seed=4)
    return images.reshape(count, side_px, side_px, channels)


def drawn(name: str, count: int, side_px: int = SIDE_PX, seed: int = 0) -> Row:
    return dict(shift_named(name).draw(np.random.default_rng(seed), count, side_px))


def row_of(params: Row, number: int) -> Row:
    return {name: values[number] for name, values in params.items()}


def tensors(params: Row) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in params.items()}


def channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def channels_last(views: torch.Tensor) -> np.ndarray:
    return views.permute(0, 2, 3, 1).numpy()


def expected(name: str, images: np.ndarray, params: Row) -> np.ndarray:
    rows = [REFERENCES[name](image, row_of(params, i)) for i, image in enumerate(images)]
    return np.stack(rows).astype(np.float64)


def check_pixels(name: str, ours: np.ndarray, reference: np.ndarray, level: float) -> None:
    """Check that pixels are equal: for a rotation nearly all, for a blur to within a level."""
    assert ours.shape == reference.shape
    errors = np.abs(ours.astype(np.float64) - reference)
    if name == "blur":
        assert errors.max() <= 1.01 * level and errors.mean() < 0.3 * level
    elif name.startswith("rot-any"):
        assert (errors > 1e-5 * level).mean() < 0.002
    else:
        assert errors.max() <= 1e-5 * level


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_the_graph_equals_the_reference(name, channels) -> None:
    images, shift = pictures(channels), shift_named(name)
    params = drawn(name, len(images))
    ours = run_graph(images, lambda view, nodes: shift.graph(view, nodes, SIDE_PX), params)
    assert ours.dtype == np.uint8
    check_pixels(name, ours, expected(name, images, params), level=1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_the_tensor_form_equals_the_reference_on_levels(name, channels) -> None:
    images = pictures(channels)
    views, params = channels_first(images), drawn(name, len(images))
    ours = shift_named(name).tensor(views, tensors(params), torch.zeros(channels))
    assert ours.dtype == torch.uint8
    check_pixels(name, channels_last(ours), expected(name, images, params), level=1)
    assert torch.equal(views, channels_first(images))


@pytest.mark.parametrize("name", NAMES)
def test_the_tensor_form_equals_the_reference_on_normalised_views(name) -> None:
    """Black corners are equal too, although black is not zero in normalised views."""
    images, params = pictures(3), drawn(name, 20)
    mean, std = np.array(RGB_MEAN), np.array(RGB_STD)
    normalised = ((images - mean) / std).astype(np.float32)
    black = torch.tensor(-mean / std, dtype=torch.float32)
    ours = shift_named(name).tensor(channels_first(normalised), tensors(params), black)
    assert ours.dtype == torch.float32
    reference = (expected(name, images, params) - mean) / std
    check_pixels(name, channels_last(ours), reference, level=1 / std.min())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_the_tensor_form_keeps_short_floats(name, dtype) -> None:
    views = channels_first(pictures(3)).to(dtype)
    params = tensors(drawn(name, len(views)))
    ours = shift_named(name).tensor(views, params, torch.zeros(3))
    longer = shift_named(name).tensor(views.float(), params, torch.zeros(3))
    assert ours.dtype == dtype and torch.equal(ours, longer.to(dtype))


def test_black_may_differ_from_image_to_image() -> None:
    views = torch.full((2, 3, SIDE_PX, SIDE_PX), 9.0)
    black = torch.arange(6.0).view(2, 3)
    params = {"angle_deg": torch.tensor([45.0, 30.0])}
    ours = SHIFTS["rot-any"].tensor(views, params, black)
    assert torch.equal(ours[:, :, 0, 0], black)
    assert (ours[:, :, SIDE_PX // 2, SIDE_PX // 2] == 9).all()


@pytest.mark.parametrize("side_px", [14, 33])
@pytest.mark.parametrize("angle_deg", [0, 90, 180, 270])
def test_a_right_angle_is_a_quarter_turn(angle_deg, side_px) -> None:
    images = pictures(3, count=2, side_px=side_px)
    params = {"angle_deg": np.full(2, angle_deg, np.float32)}
    shift = SHIFTS["rot-any"]
    turned = np.rot90(images, angle_deg // 90, (1, 2))
    ours = run_graph(images, lambda view, nodes: shift.graph(view, nodes, side_px), params)
    assert (ours == turned).all()
    ours = shift.tensor(channels_first(images), tensors(params), torch.zeros(3))
    assert (channels_last(ours) == turned).all()


@pytest.mark.parametrize("name", ["perm-4", "perm-9", "perm-16", "pixperm", "cutperm"])
def test_each_square_is_there_once(name) -> None:
    order = drawn(name, 50)["order"]
    squares = {"pixperm": SIDE_PX**2, "cutperm": 4}.get(name) or int(name.removeprefix("perm-"))
    assert order.dtype == np.int32 and order.shape == (50, squares)
    assert (np.sort(order, axis=1) == np.arange(squares)).all()


@pytest.mark.parametrize("name", RANDOM)
def test_every_view_has_its_own_parameters(name) -> None:
    rng = np.random.default_rng(0)
    first, second = (shift_named(name).draw(rng, 100, SIDE_PX) for _ in range(2))
    again = drawn(name, 100)
    for key, values in first.items():
        assert values.dtype in (np.int32, np.float32) and len(values) == 100
        assert (values != second[key]).any() and (values == again[key]).all()
        assert len(np.unique(values, axis=0)) >= 3


@pytest.mark.parametrize(
    ("name", "outcomes"), [("rot", 3), ("rot90x4", 4), ("cutperm", 3), ("perm-4", 24)]
)
def test_each_outcome_is_as_likely(name, outcomes) -> None:
    (values,) = drawn(name, 12_000).values()
    counts = Counter(np.ravel(value).tobytes() for value in values)
    assert len(counts) == outcomes
    assert chisquare(list(counts.values())).pvalue > 0.01


def test_the_turns_are_those_of_the_paper() -> None:
    assert set(drawn("rot", 200)["turns"].tolist()) == {1, 2, 3}
    assert set(drawn("rot90x4", 200)["turns"].tolist()) == {0, 1, 2, 3}


def test_a_pixel_goes_anywhere() -> None:
    order = drawn("pixperm", 20_000, side_px=3)["order"]
    for place in range(9):
        assert chisquare(np.bincount(order[:, place], minlength=9)).pvalue > 0.001


def test_angles_and_blurs_are_uniform() -> None:
    angles = drawn("rot-any", 5000)["angle_deg"]
    assert kstest(angles, "uniform", (0, 360)).pvalue > 0.01
    least, most = (share * SIDE_PX for share in BLUR_SIGMA)
    sigmas = drawn("blur", 5000)["sigma_px"]
    assert kstest(sigmas, "uniform", (least, most - least)).pvalue > 0.01
    assert drawn("blur", 100, side_px=512)["sigma_px"].max() == BLUR_MOST_PX


@pytest.mark.parametrize(
    ("name", "side_px", "named"),
    [
        ("perm-16", 30, "30 px cannot be cut into 4 equal parts"),
        ("perm-9", 28, "28 px cannot be cut into 3 equal parts"),
        ("perm-10000", 24, "24 px cannot be cut into 100 equal parts"),
        ("cutperm", 15, "15 px cannot be cut into 2 equal parts"),
    ],
)
def test_views_that_cannot_be_cut_are_refused(name, side_px, named) -> None:
    with pytest.raises(UserError, match=named):
        drawn(name, 2, side_px=side_px)


@pytest.mark.parametrize("name", ["perm-0", "perm-1", "perm-5", "perm-15"])
def test_a_number_of_squares_that_makes_no_square_is_refused(name) -> None:
    with pytest.raises(UserError, match=name):
        shift_named(name)


@pytest.mark.parametrize(
    "name", ["", "rotate", "perm", "perm-", "perm--4", "perm-04", "perm-4x", "perm-²"]
)
def test_an_unknown_name_is_refused_with_the_known_names(name) -> None:
    with pytest.raises(UserError, match=r"is none of aux, rot, .*blur, perm-N") as caught:
        shift_named(name)
    assert repr(name) in str(caught.value)
