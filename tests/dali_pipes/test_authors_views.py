"""Negatives that are turned before colour jitter, against the authors' order of operations."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dali_pipes.batch import RGB_MEAN, RGB_STD, ViewSpec
from dali_pipes.config import LoaderConfig
from dali_pipes.loader import TrainLoader
from dali_pipes.parity.reference import permuted, turned
from dali_pipes.step_plan import GroupParams, StepPlan, StreamOrder
from shards.errors import UserError
from shards.reader import ShardSet
from tests.support.authors_views import PublicTransform, public_negative, random_negatives
from tests.support.image_sets import photographs

pytestmark = pytest.mark.slow

SPEC = ViewSpec(global_px=64, local_px=48, local_views=3)
NO_HUE = dataclasses.replace(SPEC, hue_deg=0.0)
ORDER = StreamOrder(global_batch=24, seed=7)
ENGINES = pytest.mark.parametrize("engine", ["product", "dali"])


def levels(views: torch.Tensor) -> np.ndarray:
    """Return levels [..., s, s, 3] of views [..., 3, s, s]."""
    return views.float().movedim(-3, -1).numpy() * np.array(RGB_STD) + np.array(RGB_MEAN)


def negatives(
    shards: ShardSet,
    strategy: str,
    spec: ViewSpec,
    engine: str,
    order: StreamOrder = ORDER,
    dtype: torch.dtype = torch.float32,
) -> list[tuple[GroupParams, np.ndarray]]:
    """Return parameters and levels [V, B, s, s, 3] of the negative views of the first step."""
    loader = TrainLoader(
        shards, None, spec, strategy, order, torch.device("cpu"), LoaderConfig(engine), dtype
    )
    batch = next(loader)
    loader.close()
    plan = StepPlan(shards, None, spec, strategy, order)
    groups = [group for group in plan.params(0) if group.negative is not None]
    return list(zip(groups, [levels(batch.neg_global), levels(batch.neg_local)], strict=True))


def images_of(shards: ShardSet, strategy: str, order: StreamOrder = ORDER) -> np.ndarray:
    return shards.read(StepPlan(shards, None, SPEC, strategy, order).ids(0)["in-dist"])


@pytest.mark.parametrize(
    ("engine", "spec", "dtype"),
    [
        ("product", SPEC, torch.float32),
        ("product", SPEC, torch.bfloat16),
        ("dali", NO_HUE, torch.float32),  # its hue turns in YIQ
        ("dali", dataclasses.replace(NO_HUE, photometric_space="view"), torch.bfloat16),
    ],
    ids=["product", "product bf16", "dali", "dali bf16 in view space"],
)
def test_early_turns_make_the_views_of_the_authors(rgb_set, engine, spec, dtype) -> None:
    """The tolerance is what Pillow loses, because each of its operations truncates levels."""
    images = images_of(rgb_set, "rot-any-early-in")
    late = negatives(rgb_set, "rot-any-in", spec, engine)
    for number, (group, ours) in enumerate(
        negatives(rgb_set, "rot-any-early-in", spec, engine, dtype=dtype)
    ):
        angles = group.shift["0.angle_deg"]
        theirs = np.stack(
            [
                [
                    public_negative(
                        image,
                        PublicTransform.of(group.view[view, i], float(angles[view, i])),
                        ours.shape[2],
                    )
                    for i, image in enumerate(images)
                ]
                for view in range(len(ours))
            ]
        )
        error = np.abs(ours - theirs).mean((2, 3, 4))
        assert error.mean() < 2.0
        assert np.abs(late[number][1] - theirs).mean() > 2.5 * error.mean()


@ENGINES
def test_corners_are_as_often_black_as_with_the_authors(rgb_set, engine) -> None:
    order = StreamOrder(global_batch=96, seed=7)
    spec = dataclasses.replace(SPEC, global_px=48, local_views=8)

    def black(views: np.ndarray) -> float:
        return float((views[..., 0, 0, :] < 0.5).all(-1).mean())

    torch.manual_seed(0)
    theirs = black(random_negatives(photographs(30, 32, 3).repeat(25, axis=0), 48, seed=0))
    (_, early), (_, late) = (
        negatives(rgb_set, strategy, spec, engine, order)[1]
        for strategy in ("rot-any-early-in", "rot-any-in")
    )
    assert 0.5 < theirs < 0.65
    assert abs(black(early) - theirs) < 0.06  # three deviations of 750 views each
    assert black(late) > 0.95


@ENGINES
def test_terms_of_one_branch_may_be_early_and_late(rgb_set, engine) -> None:
    """Each image is shifted as its own term says, whatever the other terms of the branch are."""
    strategy = "rot-any-early-in|perm-4-in|rot-in"
    images = images_of(rgb_set, strategy)
    for group, ours in negatives(rgb_set, strategy, NO_HUE, engine):
        chosen = set()
        for view, shown in enumerate(ours):
            for i, image in enumerate(images):
                term = int(group.shift["choice"][view, i])
                angle = float(group.shift["0.angle_deg"][view, i]) if term == 0 else 0.0
                of = PublicTransform.of(group.view[view, i], angle)
                theirs = public_negative(image, of, shown.shape[1])
                if term == 1:
                    theirs = permuted(theirs, group.shift["1.order"][view, i])
                elif term == 2:
                    theirs = turned(theirs, int(group.shift["2.turns"][view, i]))
                assert np.abs(shown[i] - theirs).mean() < 9, (term, view, i)
                chosen.add(term)
        assert chosen == {0, 1, 2}


@ENGINES
def test_an_early_branch_leaves_all_other_views_as_they_are(rgb_set, aux_set, engine) -> None:
    """Views before and after it in the batch are equal bit for bit."""

    def batch(strategy: str):
        loader = TrainLoader(
            rgb_set, aux_set, SPEC, strategy, ORDER, torch.device("cpu"), LoaderConfig(engine)
        )
        return next(loader)

    early, late = (batch(f"rot-in+{turn}+perm-4") for turn in ("rot-any-early-in", "rot-any-in"))
    for ours, theirs, count in (
        (early.global_views, late.global_views, 1),
        (early.local_views, late.local_views, 3),
    ):
        same = torch.tensor([torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)])
        assert same.tolist() == [True] * (len(same) - 2 * count) + [False] * count + [True] * count


@pytest.mark.parametrize("strategy", ["rot-any-early-in", "rot-in+2*rot-any-early-in|rot-in"])
def test_whole_images_cannot_be_turned_early(rgb_set, strategy) -> None:
    spec = dataclasses.replace(SPEC, shift_space="source")
    with pytest.raises(UserError, match="views.shift_space is source; leave it at view") as told:
        StepPlan(rgb_set, None, spec, strategy, ORDER)
    assert str(told.value).startswith(f"negatives={strategy}: ") and "\n" not in str(told.value)
