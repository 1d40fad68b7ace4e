"""The batch contract, the order, the parameters on each rank, and resuming."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from dali_pipes.batch import RGB_MEAN, RGB_STD, Batch, ViewSpec
from dali_pipes.batch_memory import BatchMemory
from dali_pipes.config import LoaderConfig
from dali_pipes.loader import TrainLoader
from dali_pipes.step_plan import StreamOrder
from shards.errors import UserError
from shards.reader import ShardSet
from tests.support.image_sets import build_npy_set, photographs

CPU = torch.device("cpu")
DALI = LoaderConfig("dali", threads=2)
CONFIGS = {
    f"{engine}-{reader}": LoaderConfig(engine, reader, threads=2)
    for engine in ("dali", "product")
    for reader in ("stream", "resident")
}
EVERY_CONFIG = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
BOTH_ENGINES = pytest.mark.parametrize(
    "config", [CONFIGS["dali-stream"], CONFIGS["product-stream"]], ids=["dali", "product"]
)
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
"""A spec whose global views are the whole image, resized, so that they show which sample it is."""


def make_loader(
    in_dist: ShardSet,
    aux: ShardSet | None = None,
    strategy: str = "none",
    spec: ViewSpec = SPEC,
    config: LoaderConfig = DALI,
    dtype: torch.dtype = torch.float32,
    **order: int,
) -> TrainLoader:
    order = {"global_batch": 24, "seed": 7, **order}
    return TrainLoader(in_dist, aux, spec, strategy, StreamOrder(**order), CPU, config, dtype)


def take(loader: Iterator[Batch], steps: int) -> list[Batch]:
    return [next(loader) for _ in range(steps)]


def levels(views: torch.Tensor) -> np.ndarray:
    """Return rounded levels [B, s, s, 3] of views [B, 3, s, s]."""
    return np.rint(views.movedim(1, -1).numpy() * np.array(RGB_STD) + np.array(RGB_MEAN))


def equal(ours: Batch, theirs: Batch) -> bool:
    return all(
        torch.equal(getattr(ours, name), getattr(theirs, name))
        for name in ("global_views", "local_views", "in_dist_ids")
    )


@EVERY_CONFIG
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("strategy", "sources"),
    [("none", 0), ("aux", 1), ("rot-in", 1), ("combined", 2), ("3*rot-in|perm-4|blur+pixperm", 2)],
)
def test_a_batch_keeps_its_contract(rgb_set, aux_set, strategy, sources, config, dtype) -> None:
    aux = None if strategy in ("none", "rot-in") else aux_set
    batch = next(make_loader(rgb_set, aux, strategy, config=config, dtype=dtype))
    assert batch.global_views.shape == (2 + sources, 24, 3, 32, 32)
    assert batch.local_views.shape == (3 * (1 + sources), 24, 3, 16, 16)
    assert batch.pos_global.shape[0] == 2 and batch.pos_local.shape[0] == 3
    assert batch.neg_global.shape[0] == sources and batch.neg_local.shape[0] == 3 * sources
    assert batch.global_views.dtype == batch.local_views.dtype == dtype
    assert batch.global_views.flatten(0, 1).data_ptr() == batch.global_views.data_ptr()  # no copy
    assert (batch.aux_ids is None) == (strategy in ("none", "rot-in"))
    assert torch.isfinite(batch.global_views).all() and torch.isfinite(batch.local_views).all()


@pytest.mark.slow
@EVERY_CONFIG
def test_views_of_a_png_set_are_those_of_the_raw_set(tmp_path, config) -> None:
    images = photographs(60, 24, 3)
    batches = []
    for encoding in ("raw", "png"):
        folder = build_npy_set(tmp_path, encoding, images, encoding=encoding)
        with ShardSet.open(folder) as shards:
            batches.append(take(make_loader(shards, strategy="rot-in", config=config), 2))
    assert all(equal(raw, png) for raw, png in zip(*batches, strict=True))


@pytest.mark.parametrize(
    ("config", "space"),
    [(CONFIGS["product-stream"], "auto"), (DALI, "auto"), (DALI, "view")],
)
def test_gray_images_give_three_equal_channels_in_levels(gray_set, config, space) -> None:
    spec = dataclasses.replace(SPEC, photometric_space=space)
    batch = next(make_loader(gray_set, strategy="rot-in", spec=spec, config=config))
    for views in (batch.global_views, batch.local_views):
        pixels = views.flatten(0, 1).movedim(1, -1).numpy() * np.array(RGB_STD) + np.array(RGB_MEAN)
        assert np.ptp(pixels, axis=-1).max() < 1e-3
        assert pixels.min() >= -1e-3 and pixels.max() <= 255.001 and pixels.std() > 10


VIEW_SPACE = dataclasses.replace(BARE, photometric_space="view")


@pytest.mark.parametrize(
    ("config", "bare"),
    [*((config, BARE) for config in CONFIGS.values()), (DALI, VIEW_SPACE)],
)
def test_views_are_of_the_images_that_the_ids_name(rgb_set, aux_set, config, bare) -> None:
    for batch in take(make_loader(rgb_set, aux_set, "aux", bare, config), 3):
        shown = (batch.pos_global[0], batch.pos_global[1], batch.neg_global[0])
        for views, samples, ids in zip(
            shown,
            (rgb_set, rgb_set, aux_set),
            (batch.in_dist_ids, batch.in_dist_ids, batch.aux_ids),
            strict=True,
        ):
            assert np.abs(levels(views) - samples.read(ids.numpy())).max() <= 1


@pytest.mark.parametrize(
    ("config", "bare"),
    [(DALI, BARE), (DALI, VIEW_SPACE), (CONFIGS["product-stream"], BARE)]
    + [
        (config, dataclasses.replace(BARE, shift_space="source"))
        for config in (DALI, CONFIGS["product-stream"])
    ],
)
def test_rotated_negatives_are_turned_images_of_their_stream(
    rgb_set, aux_set, config, bare
) -> None:
    batch = next(make_loader(rgb_set, aux_set, "combined", bare, config))
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


@BOTH_ENGINES
@pytest.mark.parametrize("space", ["view", "source"])
def test_a_mix_takes_each_image_from_one_of_its_terms(rgb_set, aux_set, config, space) -> None:
    bare = dataclasses.replace(BARE, shift_space=space)
    seen = {"aux": 0, "turned": 0}
    for batch in take(make_loader(rgb_set, aux_set, "3*aux|rot-in", bare, config), 4):
        views = levels(batch.neg_global[0])
        own, other = (
            samples.read(ids.numpy())
            for samples, ids in ((rgb_set, batch.in_dist_ids), (aux_set, batch.aux_ids))
        )
        for view, mine, auxiliary in zip(views, own, other, strict=True):
            is_aux = np.abs(view - auxiliary).max() <= 1
            is_turned = min(np.abs(view - np.rot90(mine, k)).max() for k in (1, 2, 3)) <= 1
            assert is_aux != is_turned
            seen["aux" if is_aux else "turned"] += 1
    assert seen["aux"] / 96 == pytest.approx(0.75, abs=0.15)


def test_the_positive_views_do_not_depend_on_the_negatives(rgb_set, aux_set) -> None:
    config = CONFIGS["product-stream"]
    alone, beside = (
        next(make_loader(rgb_set, aux, strategy, config=config))
        for strategy, aux in (("none", None), ("combined", aux_set))
    )
    assert torch.equal(alone.pos_global, beside.pos_global)
    assert torch.equal(alone.pos_local, beside.pos_local)


def test_an_epoch_has_each_id_once_and_the_next_another_order(gray_set) -> None:
    loader = make_loader(gray_set)
    assert loader.steps_per_epoch == 5
    epochs = [
        torch.cat([batch.in_dist_ids for batch in take(loader, 5)]).tolist() for _ in range(2)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(120))
    assert epochs[0] != epochs[1]


@pytest.mark.slow
@EVERY_CONFIG
@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_batch_of_a_single_rank(rgb_set, aux_set, world_size, config) -> None:
    """All ranks together have the same images and, view by view, the same pixels."""
    strategy = "rot-in+rot-any-early|rot+perm-4-in|blur"
    whole = take(make_loader(rgb_set, aux_set, strategy, config=config), 2)
    parts = [
        take(
            make_loader(
                rgb_set, aux_set, strategy, config=config, rank=rank, world_size=world_size
            ),
            2,
        )
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


def test_an_image_has_other_views_at_the_next_step(tmp_path) -> None:
    """All images are equal, so two steps differ by their parameters only."""
    same = build_npy_set(tmp_path, "same", photographs(1, 32, 3).repeat(48, axis=0))
    spec = dataclasses.replace(BARE, jitter_p=1.0)
    first, second = take(make_loader(ShardSet.open(same), spec=spec), 2)
    assert (first.pos_global != second.pos_global).flatten(2).any(2).all()


@pytest.mark.slow
@EVERY_CONFIG
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resume_is_exact_bit_for_bit(rgb_set, aux_set, config, dtype) -> None:
    """The state is written as JSON and read again, as in a checkpoint."""

    def start() -> TrainLoader:
        return make_loader(rgb_set, aux_set, "combined", config=config, dtype=dtype)

    through = take(start(), 9)
    stopped = start()
    take(stopped, 4)
    resumed = start()
    take(resumed, 1)  # a loader that has already started can be set back too
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    for ours, theirs in zip(take(resumed, 5), through[4:], strict=True):
        assert ours.step == theirs.step and equal(ours, theirs)
        assert torch.equal(ours.aux_ids, theirs.aux_ids)


@pytest.mark.slow
@pytest.mark.parametrize("config", [CONFIGS["product-resident"], DALI], ids=["product", "dali"])
def test_an_elastic_resume_has_the_same_images_and_views(rgb_set, aux_set, config) -> None:
    through = take(make_loader(rgb_set, aux_set, "combined", config=config), 6)
    loader = make_loader(rgb_set, aux_set, "combined", config=config)
    take(loader, 2)
    for world_size, step in ((2, 2), (1, 3), (4, 4), (2, 5)):
        state = loader.state_dict()
        parts = []
        for rank in range(world_size):
            loader = make_loader(
                rgb_set, aux_set, "combined", config=config, rank=rank, world_size=world_size
            )
            loader.load_state_dict(state, elastic=True)
            parts.append(next(loader))
        for name, dim in [("global_views", 1), ("local_views", 1), ("aux_ids", 0)]:
            joined = torch.cat([getattr(part, name) for part in parts], dim)
            assert torch.equal(joined, getattr(through[step], name)), name


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 8}, "seed is 8, here it is 7"),
        ({"global_batch": 12}, "global_batch is 12, here it is 24"),
        ({"world_size": 2}, "world_size is 2, here it is 1; allow it with --elastic"),
        ({"strategy": "none"}, "negatives is 'none', here it is 'rot-in'"),
        ({"spec": dataclasses.replace(SPEC, blur_p=(0.5, 0.1, 0.5))}, r"views.blur_p is \[0.5, "),
        ({"config": LoaderConfig("product")}, "engine is 'product', here it is 'dali'"),
    ],
)
def test_a_state_of_another_run_is_refused(gray_set, change, named) -> None:
    state = make_loader(gray_set, **{"strategy": "rot-in", **change}).state_dict()
    with pytest.raises(UserError, match=named):
        make_loader(gray_set, strategy="rot-in").load_state_dict(state)


@pytest.mark.parametrize(
    ("field", "value"), [("dali", "1.0"), ("step", -1), ("step", None), ("seed", None)]
)
def test_a_state_that_was_changed_is_refused(gray_set, field, value) -> None:
    state = {**make_loader(gray_set).state_dict(), field: value}
    with pytest.raises(UserError, match=field):
        make_loader(gray_set).load_state_dict(state)


def test_a_state_of_other_images_is_refused(gray_set, rgb_set) -> None:
    with pytest.raises(UserError, match="manifests"):
        make_loader(gray_set).load_state_dict(make_loader(rgb_set).state_dict())


@pytest.mark.parametrize(
    ("side_px", "spec", "asked", "expected"),
    [
        (64, SPEC, "auto", "product"),
        (65, SPEC, "auto", "dali"),
        (32, VIEW_SPACE, "auto", "dali"),
        (32, SPEC, "dali", "dali"),
        (65, SPEC, "product", "the images are of 65 px, more than 64"),
        (32, VIEW_SPACE, "product", "photometric_space is view"),
    ],
)
def test_the_engine_is_chosen_by_the_size_of_the_images(side_px, spec, asked, expected) -> None:
    config = LoaderConfig(asked)
    if expected in ("product", "dali"):
        assert config.engine_for(side_px, spec) == expected
    else:
        with pytest.raises(UserError, match=expected):
            config.engine_for(side_px, spec)


@EVERY_CONFIG
def test_a_batch_survives_the_next_ones(gray_set, config) -> None:
    loader = make_loader(gray_set, config=config)
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
        ({"strategy": "perm-5-in"}, "perm-5"),
        ({"strategy": "perm-9-in"}, "32 px"),
        ({"config": LoaderConfig(reader="resident", resident_gb=1e-5)}, "resident_gb"),
        ({"config": LoaderConfig(threads=0)}, "loader.threads is 0"),
        ({"spec": dataclasses.replace(SPEC, flip_p=1.5)}, "flip_p"),
        ({"spec": dataclasses.replace(SPEC, hue_deg=float("inf"))}, "hue_deg is inf"),
        ({"spec": dataclasses.replace(SPEC, hue_deg=float("nan"))}, "hue_deg is nan"),
        ({"spec": dataclasses.replace(SPEC, blur_sigma_px=(1.0, 500.0))}, "blur_sigma_px is 1.0 5"),
        ({"spec": dataclasses.replace(SPEC, crop_ratio=(1.0, float("inf")))}, "crop_ratio is 1.0"),
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


@BOTH_ENGINES
def test_a_tar_cut_under_a_running_loader_is_an_error_that_names_it(
    tmp_path, gray_dir, config
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(gray_dir, copy)
    loader = make_loader(ShardSet.open(copy), config=config)
    next(loader)
    for tar in copy.glob("*.tar"):
        with tar.open("r+b") as file:
            file.truncate(2048)
    with pytest.raises(UserError, match=r"-0000\d\.tar"):
        take(loader, 5)
    for tar in copy.glob("*.tar"):
        tar.write_bytes((gray_dir / tar.name).read_bytes())
    assert next(loader).global_views.shape[1] == 24  # the loader continues when the files are back


def test_a_resident_reader_checks_every_byte_and_then_needs_no_shards(tmp_path, gray_dir) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(gray_dir, copy)
    config = CONFIGS["product-resident"]
    expected = take(make_loader(ShardSet.open(copy), config=config), 6)
    loader = make_loader(ShardSet.open(copy), config=config)
    tar = next(copy.glob("*.tar"))
    content = bytearray(tar.read_bytes())
    content[700] ^= 1  # a pixel of the first sample
    tar.write_bytes(content)
    assert all(map(equal, take(loader, 6), expected))
    with pytest.raises(UserError, match=tar.name):
        make_loader(ShardSet.open(copy), config=config)


def test_memory_is_reused_only_after_its_last_reference() -> None:
    memory = BatchMemory(CPU)
    first = memory.empty((3, 5), torch.bfloat16)
    kept = first[1:].flatten()[2:]
    kept.fill_(7)
    place = first.data_ptr()
    del first
    other = memory.empty((3, 5), torch.bfloat16)
    assert other.data_ptr() != place
    other.fill_(1)
    assert (kept == 7).all()
    del kept
    assert memory.empty((15,), torch.bfloat16).data_ptr() == place
    assert memory.empty((0, 4), torch.float32).shape == (0, 4)


def test_a_state_of_another_version_is_refused(gray_set) -> None:
    state = make_loader(gray_set).state_dict()
    del state["views.shift_space"]
    with pytest.raises(UserError, match=r"no views.shift_space: another version"):
        make_loader(gray_set).load_state_dict(state)


def test_an_image_that_cannot_be_decoded_any_more_is_named(tmp_path) -> None:
    folder = build_npy_set(tmp_path, "set", photographs(40, 72, 3), encoding="jpg")
    with ShardSet.open(folder) as shards:
        loader = make_loader(shards)
        next(loader)
        for tar in folder.glob("*.tar"):
            content = bytearray(tar.read_bytes())
            start = content.index(b"\xff\xd8")
            content[start : start + 200] = bytes(200)
            with tar.open("r+b") as file:
                file.write(content)
        with pytest.raises(UserError, match=r"set-train-0000\d.tar: 0000"):
            take(loader, 4)


@pytest.mark.slow
@pytest.mark.parametrize("space", ["view", "source"])
@pytest.mark.parametrize("world_size", [1, 2])
def test_large_images_resume_and_are_shared_by_ranks_too(tmp_path, space, world_size) -> None:
    """JPEG files of more than 64 px are decoded in the graph, and coloured after it."""
    folder = build_npy_set(tmp_path, "set", photographs(48, 72, 3), encoding="jpg")
    spec = dataclasses.replace(SPEC, photometric_space=space)
    with ShardSet.open(folder) as shards:
        through = take(make_loader(shards, strategy="rot-in|perm-4-in", spec=spec), 4)
        parts = []
        for rank in range(world_size):
            order = {"rank": rank, "world_size": world_size}
            loader = make_loader(shards, strategy="rot-in|perm-4-in", spec=spec, **order)
            loader.load_state_dict({**loader.state_dict(), "step": 2})
            parts.append(take(loader, 2))
    for step in (0, 1):
        for name in ("global_views", "local_views"):
            joined = torch.cat([getattr(part[step], name) for part in parts], 1)
            assert torch.equal(joined, getattr(through[2 + step], name))


@BOTH_ENGINES
def test_an_engine_can_jump_to_any_step(gray_set, config) -> None:
    jumped, fresh = (make_loader(gray_set, config=config)._engine for _ in range(2))
    jumped.views(0)
    assert all(map(torch.equal, jumped.views(3), fresh.views(3)))
    assert all(map(torch.equal, jumped.views(4), fresh.views(4)))
