"""A training step, compared with one written from descriptions of the authors' public code."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from dali_pipes.batch import ViewSpec
from dali_pipes.step_plan import StepPlan, StreamOrder
from shards.errors import UserError
from tests.support.authors_reference import PublicHead, PublicNetwork, PublicOptions, PublicStep
from tests.support.authors_vit import PublicViT
from tests.support.step_cases import (
    CPU,
    STEPS_PER_EPOCH,
    random_batch,
    take_step,
    tiny_run,
)
from train.config import CompatConfig, RunConfig
from train.config_checks import check_config
from train.networks.model import Network, untrained_backbone
from train.recipes import RECIPES, parse_run
from train.run_folder import first_difference, from_fields, to_fields
from train.schedules import values_at
from train.state import TrainState

QUIRKS = RECIPES["icann22-code-cifar10"]().compat


def public_network(network: Network, config: RunConfig) -> PublicNetwork:
    """Return the reference with our weights; without quirks it has timm's own forward pass."""
    head = PublicHead(
        config.model.width,
        config.head.prototypes,
        config.head.layers,
        config.head.hidden,
        config.head.bottleneck,
    )
    backbone: torch.nn.Module = copy.deepcopy(network.backbone)
    if config.compat.dino_positions:
        backbone = public_vit(config)
    theirs = PublicNetwork(backbone, head)
    with torch.no_grad():
        for to, value in zip(theirs.parameters(), in_their_order(network), strict=True):
            to.copy_(value)
    return theirs


def public_vit(config: RunConfig) -> PublicViT:
    """Return the reference's backbone with the sizes of `config` and weights of its own."""
    model = config.model
    return PublicViT(config.views.global_px, model.patch_px, model.width, model.depth, model.heads)


def in_their_order(network: Network) -> list[Tensor]:
    """Return our weights in the order of the reference's `parameters()`."""
    lengths, directions = prototypes_of(network)
    return [
        *network.backbone.parameters(),
        directions,
        lengths,
        *network.head.mlp.parameters(),
    ]


def prototypes_of(network: Network) -> list[Tensor]:
    """Return lengths and directions of the prototypes."""
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


@pytest.mark.slow
@pytest.mark.parametrize("quirks", [True, False], ids=["quirks", "no quirks"])
@pytest.mark.parametrize("sources", [0, 1, 2], ids=["none", "one source", "combined"])
def test_every_step_is_the_public_codes(in_float64, sources, quirks) -> None:
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
    # the comparison covers clipped and unclipped gradients, and weights that moved far
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
        plan = StepPlan(aux_set, rgb_set, spec, "rot", StreamOrder(15, 7, **order))
        drawn = plan.ids(step)
        return drawn["in-dist"], drawn["aux"]

    epoch = 4  # steps: 70 images have 4 full batches of 15, the other 120 have 8
    for step in range(3 * epoch):
        own, aux = ids(step, aux_replayed=True)
        assert np.array_equal(aux, ids(step % epoch)[1])
        assert np.array_equal(own, ids(step)[0])
        parts = [ids(step, aux_replayed=True, rank=r, world_size=5)[1] for r in range(5)]
        assert np.array_equal(np.concatenate(parts), aux)
    assert not np.array_equal(ids(epoch)[1], ids(0)[1])
    assert not np.array_equal(ids(epoch, aux_replayed=True)[0], ids(0, aux_replayed=True)[0])


def test_a_small_auxiliary_set_comes_again_in_its_first_order(rgb_set, aux_set) -> None:
    """A DataLoader drops its last batch, and starts again when it ends or a pass ends.

    70 auxiliary images make two batches of 30, four steps a pass.
    """
    spec = ViewSpec(global_px=32, local_px=16, local_views=1)
    order = StreamOrder(30, 7, aux_replayed=True)
    plan = StepPlan(rgb_set, aux_set, spec, "rot", order)
    drawn = [plan.ids(step)["aux"] for step in range(12)]
    loader = [drawn[0], drawn[1]]
    assert len(set(np.concatenate(loader).tolist())) == 60
    for step, ids in enumerate(drawn):
        assert np.array_equal(ids, loader[step % 4 % 2])


@pytest.mark.parametrize(
    ("negatives", "turned"),
    [
        ("rot90x4", "rot-any-early"),
        ("rot90x4-in+pixperm", "rot-any-early-in+pixperm"),
        ("2*rot90x4|rot-in", "2*rot-any-early|rot-in"),
        ("rot-any|3*rot-any-early-in", "rot-any-early|3*rot-any-early-in"),
        ("rot", "rot"),
        ("combined", "combined"),
    ],
)
def test_quarter_turns_can_mean_any_angle(negatives, turned) -> None:
    assert tiny_run(negatives=negatives, compat=QUIRKS).strategy == turned
    assert tiny_run(negatives=negatives).strategy == negatives
    late = dataclasses.replace(QUIRKS, rot_any_early=False)
    if "early" not in negatives:
        assert tiny_run(negatives=negatives, compat=late).strategy == turned.replace("-early", "")


# ---- the network ----------------------------------------------------------------------------


def test_local_views_meet_the_positions_of_dino(in_float64) -> None:
    """The grid is 16 x 16 and the views have 8 x 8 patches, as for 256 and 128 px."""
    config = tiny_run(views__global_px=64, views__local_px=32, compat=QUIRKS)
    network = Network(config, CPU, drop_path=0.0)
    theirs, timms = public_vit(config), VisionTransformer(**sizes_of(config))
    with torch.no_grad():
        for parameter in network.backbone.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        for other in (theirs, timms):
            other.load_state_dict(network.backbone.state_dict())
        for side_px in (64, 32, 48):
            views = torch.randn(3, 3, side_px, side_px)
            expected = theirs(views)
            assert (network.features(views) - expected).abs().max() < 1e-12
            assert (network.backbone(views) - expected).abs().max() < 1e-12
            apart = float((timms(views) - expected).abs().max())
            assert apart < 1e-12 if side_px == 64 else apart > 1e-3


def sizes_of(config: RunConfig) -> dict[str, Any]:
    model = config.model
    return dict(
        img_size=config.views.global_px, patch_size=model.patch_px, embed_dim=model.width,
        depth=model.depth, num_heads=model.heads, num_classes=0, global_pool="token",
        dynamic_img_size=True,
    )  # fmt: skip


@pytest.mark.slow
def test_it_can_be_exported_for_batches_of_any_size() -> None:
    backbone = Network(tiny_run(compat=QUIRKS), CPU, drop_path=0.0).backbone.eval()
    shapes = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(backbone, (torch.zeros(2, 3, 16, 16),), dynamic_shapes=shapes)
    views = torch.randn(5, 3, 16, 16)
    assert (exported.module()(views) - backbone(views)).abs().max() < 1e-5


def test_a_grid_that_weights_are_read_for_is_resized_by_dino_too(tmp_path) -> None:
    small, large = tiny_run(compat=QUIRKS), tiny_run(compat=QUIRKS, views__global_px=32)
    weights = public_vit(small)
    torch.save({"teacher": weights.state_dict()}, tmp_path / "dino.pth")
    model = dataclasses.replace(large.model, init=str(tmp_path / "dino.pth"))
    backbone = untrained_backbone(dataclasses.replace(large, model=model), CPU)
    assert (backbone.pos_embed - weights.positions(8)).abs().max() < 1e-6
    assert torch.equal(backbone.cls_token, weights.cls_token)


def test_all_weights_start_as_those_of_dino() -> None:
    """Distributions are compared by the Kolmogorov-Smirnov test, constants by equality."""
    config = tiny_run(compat=QUIRKS, model__width=48, model__heads=2, head__hidden=96)
    torch.manual_seed(0)  # not what the tests before this one left
    ours = Network(config, CPU, drop_path=0.0)
    torch.manual_seed(1)
    theirs = public_network(ours, config)
    theirs.backbone = public_vit(config)
    head = config.head
    theirs.head = PublicHead(48, head.prototypes, head.layers, head.hidden, head.bottleneck)
    pairs = zip(in_their_order(ours), theirs.parameters(), strict=True)
    for (name, _), (mine, other) in zip(theirs.named_parameters(), pairs, strict=True):
        mine, other = mine.detach().flatten().numpy(), other.detach().flatten().numpy()
        if np.ptp(other) == 0:
            assert (mine == other).all(), name
        else:
            assert ks_2samp(mine, other).pvalue > 1e-3, name


def test_without_the_switch_no_weight_but_the_class_token_is_another() -> None:
    changed = [
        name
        for switch in ("dino_class_token", "dino_positions")
        for (name, plain), dinos in zip(
            untrained_backbone(tiny_run(), CPU).state_dict().items(),
            untrained_backbone(tiny_run(compat=CompatConfig(**{switch: True})), CPU)
            .state_dict()
            .values(),
            strict=True,
        )
        if name in ("cls_token", "pos_embed", "patch_embed.proj.weight")
        and not torch.equal(plain, dinos)
    ]
    assert changed == ["cls_token"]


def test_other_networks_have_neither_positions_nor_class_token_of_dino() -> None:
    run = ["icann22-code-cifar10", "--in-dist", "x", "--out", "y", "--model.name", "resnet18"]
    off = ["--compat.no-dino-positions", "--compat.no-dino-class-token"]
    with pytest.raises(UserError) as told:
        check_config(parse_run(run))
    assert str(told.value) == (
        "compat.dino_positions is on, compat.dino_class_token is on, which only model.name vit "
        f"has, and model.name is resnet18; set {' '.join(off)}"
    )
    check_config(parse_run([*run, *off]))


# ---- runs -----------------------------------------------------------------------------------


def test_a_run_from_before_a_switch_has_it_off() -> None:
    """The configuration of an old run lacks the field; the same command resumes it."""
    new = ("rot_any_early", "dino_positions", "dino_class_token")
    config = tiny_run(compat=dataclasses.replace(QUIRKS, **dict.fromkeys(new, False)))
    fields = to_fields(config)
    for name in new:
        del fields["compat"][name]
    assert first_difference(config, from_fields(fields)) is None
    for name in new:
        compat = dataclasses.replace(config.compat, **{name: True})
        changed = first_difference(dataclasses.replace(config, compat=compat), from_fields(fields))
        assert changed == f"compat.{name} is True now and False there"
