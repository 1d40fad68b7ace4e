"""The batch contract, order, draws by rank, resume, and the graph for the GPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from dali_pipes.batch import RGB_MEAN, RGB_STD, Batch, ViewSpec
from dali_pipes.inputs import StreamOrder
from dali_pipes.loader import EvalLoader, TrainLoader
from shards.cli import UserError
from shards.reader import ShardSet
from tests.conftest import build_npy_set, photographs

CPU = torch.device("cpu")
SPEC = ViewSpec(global_px=32, local_px=16, local_views=3)
BARE = dataclasses.replace(
    SPEC,
    global_scale=(1.0, 1.0),
    crop_ratio=(1.0, 1.0),
    flip_p=0.0,
    jitter_p=0.0,
    gray_p=0.0,
    blur_p=(0.0, 0.0, 0.0),
    solarize_p=0.0,
)
"""Global views are the whole image, resized: they tell which sample they are of."""


def make_loader(
    in_dist: ShardSet,
    aux: ShardSet | None = None,
    strategy: str = "none",
    spec: ViewSpec = SPEC,
    **order: int,
) -> TrainLoader:
    order = {"global_batch": 24, "seed": 7, **order}
    return TrainLoader(in_dist, aux, spec, strategy, StreamOrder(**order), CPU, num_threads=2)


def take(loader: Iterator[Batch], steps: int) -> list[Batch]:
    return [next(loader) for _ in range(steps)]


def levels(views: torch.Tensor) -> np.ndarray:
    """[B, 3, s, s] -> uint8-like [B, s, s, 3]."""
    return np.rint(views.movedim(1, -1).numpy() * np.array(RGB_STD) + np.array(RGB_MEAN))


def equal(ours: Batch, theirs: Batch) -> bool:
    return all(
        torch.equal(getattr(ours, name), getattr(theirs, name))
        for name in ("global_views", "local_views", "in_dist_ids")
    )


@pytest.mark.parametrize(
    ("strategy", "sources"), [("none", 0), ("aux", 1), ("rot", 1), ("rot-in", 1), ("combined", 2)]
)
def test_a_batch_keeps_its_contract(rgb_set, aux_set, strategy, sources) -> None:
    aux = aux_set if strategy in ("aux", "rot", "combined") else None
    batch = next(make_loader(rgb_set, aux, strategy))
    assert batch.global_views.shape == (2 + sources, 24, 3, 32, 32)
    assert batch.local_views.shape == (3 * (1 + sources), 24, 3, 16, 16)
    assert batch.pos_global.shape[0] == 2 and batch.pos_local.shape[0] == 3
    assert batch.neg_global.shape[0] == sources and batch.neg_local.shape[0] == 3 * sources
    assert batch.global_views.dtype == torch.float32 and batch.global_views.is_contiguous()
    assert (batch.aux_ids is None) == (strategy in ("none", "rot-in"))
    assert torch.isfinite(batch.global_views).all() and torch.isfinite(batch.local_views).all()


def test_views_of_a_png_set_are_those_of_the_raw_set(tmp_path) -> None:
    images = photographs(60, 24, 3)
    batches = []
    for encoding in ("raw", "png"):
        folder = build_npy_set(tmp_path, encoding, images, encoding=encoding)
        with ShardSet.open(folder) as shards:
            batches.append(take(make_loader(shards, strategy="rot-in"), 2))
    assert all(equal(raw, png) for raw, png in zip(*batches, strict=True))


def test_gray_sources_give_three_equal_channels_in_levels(gray_set) -> None:
    batch = next(make_loader(gray_set, strategy="rot-in"))
    for views in (batch.global_views, batch.local_views):
        pixels = levels(views.flatten(0, 1))
        assert (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
        assert pixels.min() >= 0 and pixels.max() <= 255 and pixels.std() > 10


@pytest.mark.parametrize("spec", [SPEC, dataclasses.replace(SPEC, photometric_space="view")])
def test_views_are_of_the_images_that_the_ids_name(rgb_set, aux_set, spec) -> None:
    bare = dataclasses.replace(BARE, photometric_space=spec.photometric_space)
    for batch in take(make_loader(rgb_set, aux_set, "aux", bare), 3):
        shown = (batch.pos_global[0], batch.pos_global[1], batch.neg_global[0])
        for views, samples, ids in zip(
            shown,
            (rgb_set, rgb_set, aux_set),
            (batch.in_dist_ids, batch.in_dist_ids, batch.aux_ids),
            strict=True,
        ):
            assert np.abs(levels(views) - samples.read(ids.numpy())).max() <= 1


def test_rotated_negatives_are_turned_images_of_their_stream(rgb_set, aux_set) -> None:
    batch = next(make_loader(rgb_set, aux_set, "combined", BARE))
    for number, (samples, ids) in enumerate(
        [(rgb_set, batch.in_dist_ids), (aux_set, batch.aux_ids)]
    ):
        turns = []
        for view, image in zip(
            levels(batch.neg_global[number]), samples.read(ids.numpy()), strict=True
        ):
            errors = [np.abs(view - np.rot90(image, k)).max() for k in range(4)]
            turns.append(int(np.argmin(errors)))
            assert min(errors) <= 1
        assert set(turns) == {1, 2, 3}


def test_an_epoch_has_each_id_once_and_the_next_another_order(gray_set) -> None:
    loader = make_loader(gray_set)
    assert loader.steps_per_epoch == 5
    epochs = [
        torch.cat([batch.in_dist_ids for batch in take(loader, 5)]).tolist() for _ in range(2)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(120))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_out_the_batch_of_one(rgb_set, aux_set, world_size) -> None:
    """The same images and, view by view, the same pixels."""
    whole = take(make_loader(rgb_set, aux_set, "combined"), 2)
    parts = [
        take(make_loader(rgb_set, aux_set, "combined", rank=rank, world_size=world_size), 2)
        for rank in range(world_size)
    ]
    for step in range(2):
        for name, dim in [("global_views", 1), ("local_views", 1), ("in_dist_ids", 0)]:
            joined = torch.cat([getattr(part[step], name) for part in parts], dim)
            assert torch.equal(joined, getattr(whole[step], name)), name


def test_views_of_one_image_differ_and_so_do_steps_ranks_and_seeds(gray_set) -> None:
    spec = dataclasses.replace(BARE, jitter_p=1.0)
    first, second = take(make_loader(gray_set, spec=spec), 2)
    assert not torch.equal(first.pos_global[0], first.pos_global[1])
    other = next(make_loader(gray_set, spec=spec, seed=8))
    assert not torch.equal(first.pos_global, second.pos_global)
    assert not torch.equal(first.in_dist_ids, other.in_dist_ids)
    same = next(make_loader(gray_set, spec=spec))
    assert equal(first, same)


def test_an_image_is_seen_otherwise_at_the_next_step(tmp_path) -> None:
    """All images are the same one, so that only the draws tell two steps apart."""
    same = build_npy_set(tmp_path, "same", photographs(1, 32, 3).repeat(48, axis=0))
    spec = dataclasses.replace(BARE, jitter_p=1.0)
    first, second = take(make_loader(ShardSet.open(same), spec=spec), 2)
    assert (first.pos_global != second.pos_global).flatten(2).any(2).all()


def test_resume_is_exact_bit_for_bit(rgb_set, aux_set) -> None:
    through = take(make_loader(rgb_set, aux_set, "combined"), 9)
    stopped = make_loader(rgb_set, aux_set, "combined")
    take(stopped, 4)
    resumed = make_loader(rgb_set, aux_set, "combined")
    resumed.load_state_dict(stopped.state_dict())
    for ours, theirs in zip(take(resumed, 5), through[4:], strict=True):
        assert ours.step == theirs.step and equal(ours, theirs)
        assert torch.equal(ours.aux_ids, theirs.aux_ids)


@pytest.mark.parametrize(
    ("change", "named"), [({"seed": 8}, "seed"), ({"global_batch": 12}, "global_batch")]
)
def test_a_state_of_another_run_is_refused(gray_set, change, named) -> None:
    with pytest.raises(UserError, match=named):
        make_loader(gray_set).load_state_dict(make_loader(gray_set, **change).state_dict())


def test_a_state_of_other_images_is_refused(gray_set, rgb_set) -> None:
    with pytest.raises(UserError, match="manifests"):
        make_loader(gray_set).load_state_dict(make_loader(rgb_set).state_dict())


def test_a_batch_survives_the_next_ones(gray_set) -> None:
    loader = make_loader(gray_set)
    batch = next(loader)
    kept = batch.global_views.clone(), batch.local_views.clone()
    take(loader, 4)
    assert torch.equal(batch.global_views, kept[0]) and torch.equal(batch.local_views, kept[1])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"global_batch": 121}, "121"),
        ({"global_batch": 25, "world_size": 2}, "25"),
        ({"strategy": "rot"}, "--aux"),
        ({"spec": dataclasses.replace(SPEC, flip_p=1.5)}, "flip_p"),
        ({"spec": dataclasses.replace(SPEC, local_scale=(0.5, 0.2))}, "local_scale"),
    ],
)
def test_requests_that_cannot_be_met_are_named(gray_set, change, named) -> None:
    with pytest.raises(UserError, match=named):
        make_loader(gray_set, **change)


def test_auxiliary_images_that_nothing_reads_are_refused(rgb_set, aux_set) -> None:
    with pytest.raises(UserError, match="rot-in reads no auxiliary images"):
        make_loader(rgb_set, aux_set, "rot-in")


def test_streams_of_different_shapes_are_refused(gray_set, aux_set) -> None:
    with pytest.raises(UserError, match="height, width, channels"):
        make_loader(gray_set, aux_set, "rot")


def test_a_tar_cut_under_a_running_loader_is_an_error_that_names_it(tmp_path, gray_dir) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(gray_dir, copy)
    loader = make_loader(ShardSet.open(copy))
    next(loader)
    for tar in copy.glob("*.tar"):
        with tar.open("r+b") as file:
            file.truncate(2048)
    with pytest.raises(UserError, match=r"-0000\d\.tar"):
        take(loader, 5)


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


@pytest.mark.parametrize("space", ["view", "source"])
def test_the_gpu_graph_is_valid_without_a_gpu(rgb_set, aux_set, space) -> None:
    """Every operator has a GPU kernel and takes its arguments; only running it needs a device."""
    from nvidia.dali.backend import RegisteredGPUOps

    from dali_pipes.inputs import StepInputs
    from dali_pipes.train_pipe import train_graph

    spec = dataclasses.replace(SPEC, photometric_space=space)
    inputs = StepInputs(rgb_set, aux_set, spec, "combined", StreamOrder(24, 0))
    pipeline = train_graph(inputs, device="gpu", batch_size=24, num_threads=1, device_id=None)
    assert len(pipeline.serialize()) > 0
    devices: dict[str, set[str]] = {}
    for op in pipeline._ops:
        name = op.name.lstrip("_").rsplit("_", 1)[0]
        devices.setdefault(name, set()).update(node.device for node in op.outputs)
    for name in ("Slice", "Resize", "Hsv", "GaussianBlur", "Flip", "CropMirrorNormalize"):
        assert devices[name] == {"gpu"}, name
    on_gpu = {name for name, where in devices.items() if "gpu" in where}
    assert {name for name in on_gpu if name not in "".join(RegisteredGPUOps())} == set()
