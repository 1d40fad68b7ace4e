"""The step against one written from the descriptions of the authors' public code."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from dali_pipes.batch import ViewSpec
from dali_pipes.plan import StepPlan, StreamOrder
from tests.public_code import PublicHead, PublicNetwork, PublicOptions, PublicStep
from tests.step_cases import (  # noqa: F401 (a fixture)
    CPU,
    STEPS_PER_EPOCH,
    in_float64,
    random_batch,
    take_step,
    tiny_run,
)
from train.config import CompatConfig, RunConfig
from train.model import Network
from train.recipes import RECIPES
from train.schedules import values_at
from train.state import TrainState

QUIRKS = CompatConfig(centre_first_rows=True, aux_replayed=True, loss_x1_5=True, rot_any=True)


def public_network(network: Network, config: RunConfig) -> PublicNetwork:
    """The same weights in the reference's form; timm's own forward pass."""
    head = PublicHead(
        config.model.width,
        config.head.prototypes,
        config.head.layers,
        config.head.hidden,
        config.head.bottleneck,
    )
    theirs = PublicNetwork(copy.deepcopy(network.backbone), head)
    with torch.no_grad():
        for to, value in zip(theirs.parameters(), in_their_order(network), strict=True):
            to.copy_(value)
    return theirs


def in_their_order(network: Network) -> list[Tensor]:
    """Our weights as the reference's `parameters()` has theirs."""
    lengths, directions = prototypes_of(network)
    return [
        *network.backbone.parameters(),
        directions,
        lengths,
        *network.head.mlp.parameters(),
    ]


def prototypes_of(network: Network) -> list[Tensor]:
    """Lengths and directions."""
    return list(network.head.prototypes.parameters())


def public_step(config: RunConfig, state: TrainState, quirks: bool) -> PublicStep:
    options = PublicOptions(
        epochs=config.epochs,
        steps_per_epoch=STEPS_PER_EPOCH,
        images_a_step=config.global_batch,
        lr=0.5,
        warmup_epochs=1,
        clip_grad=0.05,
        quirks=quirks,
    )
    return PublicStep(
        public_network(state.student, config), public_network(state.teacher, config), options
    )


@pytest.mark.parametrize("quirks", [True, False], ids=["quirks", "no quirks"])
@pytest.mark.parametrize("sources", [0, 1, 2], ids=["none", "one source", "combined"])
def test_every_step_is_the_public_codes(in_float64, sources, quirks) -> None:  # noqa: F811
    config = tiny_run(compat=QUIRKS if quirks else CompatConfig())
    state = TrainState.start(config, CPU)
    reference = public_step(config, state, quirks)
    began = [value.clone() for value in in_their_order(state.student)]
    first_prototypes = [value.clone() for value in prototypes_of(state.student)]
    clipped = []
    for step in range(config.epochs * STEPS_PER_EPOCH):
        batch = random_batch(config, step, sources)
        ours = take_step(config, state, batch)
        theirs = reference.step(batch.global_views, batch.local_views, step)
        clipped.append(theirs["clipped"])
        assert float(ours.values["loss"]) == pytest.approx(theirs["loss"], rel=1e-13)
        assert float(ours.values["positive"]) == pytest.approx(theirs["positive"], rel=1e-13)
        if sources:
            kl = theirs["negative"] - np.log(32)
            assert float(ours.values["negative_kl"]) == pytest.approx(kl, rel=1e-11)
        assert (state.centre - reference.centre).abs().max() < 1e-15
        for network, other in (
            (state.student, reference.student),
            (state.teacher, reference.teacher),
        ):
            for one, two in zip(in_their_order(network), other.parameters(), strict=True):
                assert (one - two).abs().max() < 1e-12
        frozen = all(map(torch.equal, prototypes_of(state.student), first_prototypes))
        assert frozen == (step < STEPS_PER_EPOCH)
    # the comparison has met clipped and unclipped gradients, and weights that went far
    assert 0 < min(clipped) < len(began)
    moved = [(a - b).abs().max() for a, b in zip(in_their_order(state.student), began, strict=True)]
    assert min(moved) > 1e-3


def test_its_schedules_are_those_of_the_recipe() -> None:
    recipe = RECIPES["icann22-code-cifar10"]()
    options = PublicOptions(steps_per_epoch=3)
    reference = PublicStep(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), options)
    for step in range(0, 1500, 7):
        values = values_at(recipe, step, 3)
        assert values.lr == pytest.approx(reference.lrs[step], rel=1e-12, abs=1e-18)
        assert values.weight_decay == pytest.approx(reference.weight_decays[step], rel=1e-12)
        assert values.ema_momentum == pytest.approx(reference.momenta[step], rel=1e-12)
        assert values.teacher_temp == pytest.approx(reference.teacher_temps[step // 3], rel=1e-12)


def test_replayed_auxiliary_images_are_those_of_the_first_pass(rgb_set, aux_set) -> None:
    spec = ViewSpec(global_px=32, local_px=16, local_views=1)

    def ids(step: int, **order) -> tuple[np.ndarray, np.ndarray]:
        plan = StepPlan(rgb_set, aux_set, spec, "rot", StreamOrder(25, 7, **order))
        drawn = plan.ids(step)
        return drawn["in-dist"], drawn["aux"]

    epoch = 4  # steps: full batches of 25 in 120 images
    for step in range(3 * epoch):
        own, aux = ids(step, aux_replayed=True)
        assert np.array_equal(aux, ids(step % epoch)[1])
        assert np.array_equal(own, ids(step)[0])
        parts = [ids(step, aux_replayed=True, rank=r, world_size=5)[1] for r in range(5)]
        assert np.array_equal(np.concatenate(parts), aux)
    assert not np.array_equal(ids(epoch)[1], ids(0)[1])
    assert not np.array_equal(ids(epoch, aux_replayed=True)[0], ids(0, aux_replayed=True)[0])


@pytest.mark.parametrize(
    ("negatives", "turned"),
    [
        ("rot90x4", "rot-any"),
        ("rot90x4-in+pixperm", "rot-any-in+pixperm"),
        ("2*rot90x4|rot-in", "2*rot-any|rot-in"),
        ("rot", "rot"),
        ("combined", "combined"),
    ],
)
def test_quarter_turns_can_mean_any_angle(negatives, turned) -> None:
    assert tiny_run(negatives=negatives, compat=QUIRKS).strategy == turned
    assert tiny_run(negatives=negatives).strategy == negatives
