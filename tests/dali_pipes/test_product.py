"""The engine `product` against Pillow, torchvision and numpy."""

from __future__ import annotations

import colorsys
import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchvision.transforms.v2 import functional as tv

from dali_pipes.batch import RGB_MEAN, RGB_STD, ViewSpec
from dali_pipes.negatives import parse_negatives
from dali_pipes.parity.reference import reference_views
from dali_pipes.product.crops import crop_lengths
from dali_pipes.product.jitter import jitter_, turn_hue
from dali_pipes.product.operators import OperatorTable, blur_matrix, cubic_matrix
from dali_pipes.product.views import ProductViews
from dali_pipes.step_plan import GroupParams, ViewGroup
from dali_pipes.view_params import ViewParams, draw_view_params
from tests.support.image_sets import photographs

CPU = torch.device("cpu")
COUNT = 24
PLAIN = dataclasses.replace(
    ViewSpec(), jitter_p=0.0, gray_p=0.0, blur_p=(0.0, 0.0, 0.0), solarize_p=0.0
)


def make(
    images: np.ndarray,
    groups: list[GroupParams],
    spec: ViewSpec = PLAIN,
    dtype: torch.dtype = torch.float32,
) -> np.ndarray:
    """Return all views of the groups, in levels: float [V, B, s, s, 3]."""
    group = groups[0].group
    scale = spec.local_scale if group.kind == "local" else spec.global_scale
    maker = ProductViews(spec, group.side_px, scale, images.shape[1:3], dtype, CPU)
    shape = sum(group.group.count for group in groups), groups[0].view.flip.shape[1]
    out = torch.empty(*shape, 3, group.side_px, group.side_px, dtype=dtype)
    maker.make(torch.from_numpy(images), groups, out)
    return out.movedim(2, -1).double().numpy() * np.array(RGB_STD) + np.array(RGB_MEAN)


def positive(params: ViewParams, kind: str, side_px: int) -> list[GroupParams]:
    """Return a group with one positive view of each of B images."""
    batch = len(params.flip)
    return [GroupParams(ViewGroup(kind, 1, side_px), params[None], np.zeros(batch, bool), {})]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 0.5), (torch.bfloat16, 0.6)])
def test_views_are_those_of_the_reference(channels, dtype, limit) -> None:
    images = photographs(COUNT, 32, channels)
    spec, errors = ViewSpec(), []
    for seed, (kind, side_px) in enumerate([("global-1", 96), ("global-2", 64), ("local", 48)]):
        params = draw_view_params(np.random.default_rng(seed), spec, kind, (COUNT,), (32, 32))
        ours = make(images, positive(params, kind, side_px), spec, dtype=dtype)[0]
        errors.append(np.abs(ours - reference_views(images, params, side_px)).mean())
    assert np.mean(errors) < limit and max(errors) < 1.2 * limit


def test_crops_of_images_that_are_not_square() -> None:
    images = photographs(COUNT, 40, 3)[:, :24]
    params = draw_view_params(np.random.default_rng(0), PLAIN, "global-1", (COUNT,), (24, 40))
    ours = make(images, positive(params, "global-1", 48))[0]
    error = np.abs(ours - reference_views(images, params, 48))
    assert error.mean() < 0.35 and error.max() <= 12


@pytest.mark.parametrize(("length", "side"), [(5, 64), (23, 28), (28, 28), (32, 20), (64, 14)])
def test_resizing_is_pillows(length, side) -> None:
    lines = np.random.default_rng(0).uniform(0, 255, (50, length)).astype(np.float32)
    theirs = Image.fromarray(lines).resize((side, 50), Image.Resampling.BICUBIC)
    assert np.abs(lines @ cubic_matrix(length, side).T - np.asarray(theirs)).max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0, 2.0])
def test_blur_is_pillows_to_the_edges(sigma) -> None:
    photograph = Image.fromarray(photographs(1, 32, 3)[0])
    view = np.asarray(photograph.resize((96, 96), Image.Resampling.BICUBIC))
    blur = blur_matrix(96, sigma)
    ours = np.einsum("iy,yxc,jx->ijc", blur, view, blur)
    theirs = np.asarray(Image.fromarray(view).filter(ImageFilter.GaussianBlur(sigma)))
    error = np.abs(ours - theirs)
    assert error.mean() < 0.6 and error.max() <= 3  # Pillow rounds after each box


def test_a_drawn_blur_takes_the_nearest_tabulated_blur() -> None:
    table = OperatorTable(40, (10, 20), 2.0, torch.float32, CPU)
    lengths, sigmas = np.array([10, 15, 20]), np.array([0.0, 0.77, 2.0])
    matrices = table.matrices[torch.from_numpy(table.rows(lengths, sigmas))].numpy()
    for matrix, length, sigma in zip(matrices, lengths, sigmas, strict=True):
        exact = blur_matrix(40, sigma) @ cubic_matrix(length, 40)
        assert np.abs(matrix[:, :length] - exact).max() < 0.01
        assert (matrix[:, length:] == 0).all()


def test_all_drawn_crops_are_provided_for() -> None:
    rng = np.random.default_rng(0)
    for hw in ((32, 32), (24, 40), (7, 64)):
        for kind, scale in (("global-1", (0.4, 1.0)), ("local", (0.15, 0.4))):
            shapes = draw_view_params(rng, ViewSpec(), kind, (5000,), hw).crop_shape
            shortest, longest = crop_lengths(hw, scale, ViewSpec().crop_ratio)
            assert shortest <= shapes.min() and shapes.max() <= longest


def test_hue_turns_in_hsv() -> None:
    rng = np.random.default_rng(0)
    colours = np.concatenate([rng.random((200, 3)), rng.integers(0, 2, (40, 3)), [[0.3] * 3]])
    turns = rng.uniform(-3, 3, len(colours))
    ours = turn_hue(
        torch.tensor(colours, dtype=torch.float32)[:, :, None],
        torch.tensor(turns, dtype=torch.float32)[:, None],
    )[..., 0]
    for colour, turn, result in zip(colours, turns, ours.numpy(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        expected = colorsys.hsv_to_rgb((hue + turn / 6) % 1, saturation, value)
        assert np.abs(result - expected).max() < 1e-5


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_is_torchvisions_in_any_order(channels) -> None:
    """The crops are whole images, so only the jitter is compared."""
    images = photographs(200, 12, channels).astype(np.float32) / 255
    spec = dataclasses.replace(ViewSpec(), jitter_p=1.0)
    params = draw_view_params(np.random.default_rng(1), spec, "local", (200,), (12, 12))
    pixels = torch.from_numpy(images).movedim(-1, 1).flatten(2).clone()
    weights = torch.full((200, 144), 1 / 144)
    ours = jitter_(pixels, weights, params).clamp(0, 1).view(200, channels, 12, 12)
    operations = {
        0: lambda image, i: tv.adjust_brightness(image, float(params.brightness[i])),
        1: lambda image, i: tv.adjust_contrast(image, float(params.contrast[i])),
        2: lambda image, i: tv.adjust_saturation(image, float(params.saturation[i])),
        3: lambda image, i: tv.adjust_hue(image, float(params.hue_deg[i]) / 360),
    }
    for i in range(200):
        image = torch.from_numpy(images[i]).movedim(-1, 0)
        for number in params.jitter_order[i].tolist():
            if channels == 3 or number < 2:
                image = operations[number](image, i)
        if params.gray[i] and channels == 3:
            image = tv.rgb_to_grayscale(image, 3)
        assert (ours[i] - image).abs().max() < 2e-4, i


def test_padding_does_not_count_for_the_contrast() -> None:
    crop = torch.rand(1, 3, 16)
    padded = torch.cat([crop, torch.full((1, 3, 9), 7.0)], 2)
    weights = torch.cat([torch.full((1, 16), 1 / 16), torch.zeros(1, 9)], 1)
    spec = dataclasses.replace(ViewSpec(), jitter_p=1.0, hue_deg=0.0, gray_p=0.0)
    params = draw_view_params(np.random.default_rng(2), spec, "local", (1,), (4, 4))
    alone = jitter_(crop.clone(), torch.full((1, 16), 1 / 16), params)
    assert torch.allclose(jitter_(padded, weights, params)[..., :16], alone, atol=1e-6)


def test_solarized_views_are_inverted_where_bright() -> None:
    images = photographs(COUNT, 32, 3)
    params = draw_view_params(np.random.default_rng(3), PLAIN, "global-2", (COUNT,), (32, 32))
    chosen = np.arange(COUNT) % 3 == 0
    bare = make(images, positive(params, "global-2", 64))[0]
    ours = make(images, positive(dataclasses.replace(params, solarize=chosen), "global-2", 64))[0]
    expected = np.where((bare >= 127.5) & chosen[:, None, None, None], 255 - bare, bare)
    assert np.abs(ours - expected).max() < 0.01


def negative_params(
    text: str, rng: np.random.Generator, side_px: int, spec: ViewSpec
) -> tuple[GroupParams, GroupParams]:
    """Return three negative views of the branch `text`, and the same views without their shift."""
    (branch,) = parse_negatives(text)
    params = draw_view_params(rng, spec, "local", (3, COUNT), (32, 32))
    shift_px = side_px if spec.shift_space == "view" else 32
    shift = {
        name: values.reshape(3, COUNT, *values.shape[1:])
        for name, values in branch.draw(rng, 3 * COUNT, shift_px).items()
    }
    in_dist = np.zeros(COUNT, bool)
    shifted = GroupParams(ViewGroup("local", 3, side_px, 0), params, in_dist, shift, branch)
    return shifted, GroupParams(ViewGroup("local", 3, side_px), params, in_dist, {})


def test_quarter_turns_and_mirroring_equal_numpys() -> None:
    images = photographs(COUNT, 32, 3)
    turned, upright = negative_params("rot90x4-in", np.random.default_rng(4), 32, PLAIN)
    ours, bare = make(images, [turned]), make(images, [upright])
    turns = turned.shift["0.turns"]
    assert set(turns.ravel().tolist()) == {0, 1, 2, 3}
    assert set(turned.view.flip.ravel().tolist()) == {0, 1}
    for view in range(3):
        for i in range(COUNT):
            expected = np.rot90(bare[view, i], turns[view, i])
            assert np.abs(ours[view, i] - expected).max() < 1e-3


@pytest.mark.parametrize("grid", [2, 4])
def test_permuted_negatives_are_their_views_permuted(grid) -> None:
    images = photographs(COUNT, 32, 3)
    text = f"perm-{grid * grid}-in"
    shuffled, plain = negative_params(text, np.random.default_rng(5), 32, PLAIN)
    ours, bare = make(images, [shuffled]), make(images, [plain])
    side = 32 // grid
    for view, i in ((0, 0), (1, 5), (2, 23)):
        patches = [
            bare[view, i, y : y + side, x : x + side]
            for y in range(0, 32, side)
            for x in range(0, 32, side)
        ]
        order = shuffled.shift["0.order"][view, i]
        rows = [
            np.concatenate([patches[k] for k in order[r * grid : (r + 1) * grid]], axis=1)
            for r in range(grid)
        ]
        assert np.abs(ours[view, i] - np.concatenate(rows)).max() < 1e-3


def test_in_source_space_the_image_is_shifted_before_the_crop() -> None:
    images = photographs(COUNT, 32, 3)
    spec = dataclasses.replace(PLAIN, shift_space="source")
    shifted, plain = negative_params("rot-in", np.random.default_rng(6), 48, spec)
    ours = make(images, [shifted], spec)
    turns = shifted.shift["0.turns"]
    for view in range(3):
        turned = np.stack(
            [np.rot90(image, k) for image, k in zip(images, turns[view], strict=True)]
        )
        one = dataclasses.replace(plain, view=plain.view[view : view + 1])
        one = dataclasses.replace(one, group=ViewGroup("local", 1, 48))
        assert np.abs(ours[view] - make(turned, [one])[0]).max() < 1e-3


def test_auxiliary_images_come_after_the_in_distribution_ones() -> None:
    images = photographs(2 * COUNT, 32, 3)
    params = draw_view_params(np.random.default_rng(7), PLAIN, "global-1", (COUNT,), (32, 32))
    from_aux = np.arange(COUNT) % 2 == 1
    group = GroupParams(ViewGroup("global-1", 1, 32), params[None], from_aux, {})
    expected = np.where(from_aux[:, None, None, None], images[COUNT:], images[:COUNT])
    alone = positive(params, "global-1", 32)
    assert np.abs(make(images, [group]) - make(expected, alone)).max() < 1e-3


@pytest.mark.slow
def test_a_view_does_not_depend_on_what_else_is_made() -> None:
    """Views are equal bit for bit in chunks of any size, so ranks and resumed runs agree."""
    images = photographs(200, 32, 3)
    spec = ViewSpec()
    params = draw_view_params(np.random.default_rng(8), spec, "local", (200,), (32, 32))
    for dtype in (torch.float32, torch.bfloat16):
        whole = make(images, positive(params, "local", 48), spec, dtype=dtype)[0]
        for part in (slice(0, 1), slice(3, 10), slice(100, 200)):
            alone = make(images[part], positive(params[part], "local", 48), spec, dtype=dtype)[0]
            assert (alone == whole[part]).all()
