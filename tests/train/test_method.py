"""Schedules, recipes, EMA, head, optimizer, clipping and model, compared with their formulas."""

from __future__ import annotations

import dataclasses
import importlib
import math
import operator
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional

from dali_pipes.batch import RGB_MEAN, RGB_STD, Batch
from shards.errors import UserError
from tests.support.step_cases import plain_feature
from train.config import CompatConfig, HeadConfig, OptimConfig, RunConfig
from train.config_checks import check_config
from train.ema import update_teacher
from train.networks.head import Head
from train.networks.model import build_backbone, build_networks, untrained_backbone
from train.networks.stochastic_depth import draw_branch_scales
from train.networks.vit import cls_feature, is_plain_vit
from train.objective import micro_batches, negative_share
from train.optim import apply_schedule, build_optimizer, clip_each
from train.recipes import RECIPES
from train.schedules import values_at
from train.world import World

CPU = torch.device("cpu")
COUNTS = torch.tensor(True)
"""The verdict of a step that is not skipped."""


def recipe(name: str) -> RunConfig:
    return dataclasses.replace(RECIPES[name](), in_dist=Path("x"), out=Path("y"))


def small_config(**changes) -> RunConfig:
    return dataclasses.replace(recipe("demo-cpu"), **changes)


# ---- schedules ------------------------------------------------------------------------------


def dino_cosine(base, final, epochs, steps_per_epoch, warmup_epochs=0) -> np.ndarray:
    """Return DINO's schedule as an array over all steps."""
    warmup = np.linspace(0, base, warmup_epochs * steps_per_epoch)
    rest = np.arange(epochs * steps_per_epoch - len(warmup))
    cosine = final + 0.5 * (base - final) * (1 + np.cos(np.pi * rest / len(rest)))
    return np.concatenate([warmup, cosine])


@pytest.mark.parametrize(
    ("name", "peak_lr", "temps"),
    [
        ("icann22-paper-cifar10", 0.004, (0.055, 0.01)),
        ("icann22-paper-cifar100", 0.004, (0.050, 0.01)),
        ("icann22-code-cifar10", 0.002, (0.04, 0.01)),
    ],
)
def test_schedules_are_dinos_with_the_papers_values(name, peak_lr, temps) -> None:
    config, per_epoch = recipe(name), 3
    steps = config.epochs * per_epoch
    ours = [values_at(config, step, per_epoch) for step in range(steps)]
    expected = {
        "lr": dino_cosine(peak_lr, 1e-6, 500, per_epoch, 30),
        "weight_decay": dino_cosine(0.04, 0.4, 500, per_epoch),
        "ema_momentum": dino_cosine(0.996, 1.0, 500, per_epoch),
        "teacher_temp": np.linspace(*temps, 500).repeat(per_epoch),
    }
    for field, values in expected.items():
        drawn = np.array([getattr(value, field) for value in ours])
        assert np.abs(drawn - values).max() < 1e-12, field
    assert [value.last_layer_frozen for value in ours[:5]] == [True] * 3 + [False] * 2


def test_lambda_is_constant_or_rises_from_zero() -> None:
    def weights(warmup_epochs: float) -> list[float]:
        loss = dataclasses.replace(
            small_config().loss, negative_weight=0.5, negative_warmup_epochs=warmup_epochs
        )
        config = small_config(loss=loss)
        return [values_at(config, step, 10).negative_weight for step in range(40)]

    assert weights(0) == [0.5] * 40
    assert weights(2) == pytest.approx([0.5 * (i + 1) / 20 for i in range(20)] + [0.5] * 20)


def test_an_adaptive_lambda_is_what_the_positives_have_left_of_ln_k() -> None:
    loss = dataclasses.replace(small_config().loss, negative_adaptive=True)
    adaptive = small_config(loss=loss)
    ln_k = math.log(256)
    for positive, share in [(ln_k, 0.0), (0.0, 1.0), (0.25 * ln_k, 0.75), (1.5 * ln_k, 0.0)]:
        state = SimpleNamespace(positive=torch.tensor(positive, dtype=torch.float64))
        assert float(negative_share(adaptive, state)) == pytest.approx(share, abs=1e-15)
        assert negative_share(small_config(), state) == 1.0


# ---- recipes --------------------------------------------------------------------------------

METHOD = {
    "negatives": "rot",
    "epochs": 500,
    "views.global_px": 256,
    "views.local_px": 128,
    "views.local_views": 8,
    "views.global_scale": (0.4, 1.0),
    "views.local_scale": (0.15, 0.4),
    "views.crop_ratio": (3 / 4, 4 / 3),
    "views.flip_p": 0.5,
    "views.jitter_p": 0.8,
    "views.brightness": 0.4,
    "views.contrast": 0.4,
    "views.saturation": 0.2,
    "views.hue_deg": 36.0,
    "views.gray_p": 0.2,
    "views.blur_p": (1.0, 0.1, 0.5),
    "views.blur_sigma_px": (0.1 * 256 / 224, 2.0 * 256 / 224),
    "views.solarize_p": 0.2,
    "views.shift_space": "view",
    "model.name": "vit",
    "model.patch_px": 16,
    "model.width": 384,
    "model.depth": 12,
    "model.heads": 6,
    "model.drop_path": 0.1,
    "model.init": "",
    "head.prototypes": 4096,
    "head.layers": 3,
    "head.hidden": 2048,
    "head.bottleneck": 256,
    "head.norm_last_layer": False,
    "loss.norm": "mean",
    "loss.negative_weight": 1.0,
    "loss.negative_warmup_epochs": 0,
    "loss.negative_adaptive": False,
    "loss.student_temp": 0.1,
    "loss.teacher_temp_end": 0.01,
    "loss.centre_momentum": 0.9,
    "optim.lr_base": 0.004,
    "optim.lr_end": 1e-6,
    "optim.warmup_epochs": 30,
    "optim.weight_decay_start": 0.04,
    "optim.weight_decay_end": 0.4,
    "optim.clip_norm": 3.0,
    "optim.freeze_last_layer_epochs": 1,
    "optim.ema_momentum_start": 0.996,
    **{f"compat.{switch.name}": False for switch in dataclasses.fields(CompatConfig)},
}
"""Values on which paper, DINO and the authors' code agree, or which follow the authors' code."""

RUNS = {
    "icann22-paper-cifar10": (256, 0.055, "bf16"),
    "icann22-paper-cifar100": (256, 0.050, "bf16"),
    "icann22-code-cifar10": (128, 0.04, "fp32"),
}


@pytest.mark.parametrize("name", RUNS)
def test_presets_have_the_values_of_the_method(name) -> None:
    config = recipe(name)
    batch, first_temp, precision = RUNS[name]
    expected = METHOD | {
        "global_batch": batch,
        "loss.teacher_temp_start": first_temp,
        "precision": precision,
    }
    if name == "icann22-code-cifar10":  # the command of the authors' README, with all quirks
        expected |= {field: True for field in METHOD if field.startswith("compat.")}
        expected["negatives"] = "combined"
    assert {field: operator.attrgetter(field)(config) for field in expected} == expected
    assert values_at(config, 500 * 7 - 1, 7).ema_momentum == pytest.approx(1.0, abs=1e-9)


def test_views_are_normalised_with_imagenets_statistics() -> None:
    assert np.abs(np.array(RGB_MEAN) / 255 - (0.485, 0.456, 0.406)).max() < 1e-12
    assert np.abs(np.array(RGB_STD) / 255 - (0.229, 0.224, 0.225)).max() < 1e-12


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_can_run(name) -> None:
    check_config(recipe(name))


# ---- EMA ------------------------------------------------------------------------------------


def test_the_teacher_is_the_moving_average_of_the_student() -> None:
    student, teacher = build_networks(small_config(), CPU)
    expected = [parameter.double().clone() for parameter in teacher.parameters()]
    torch.manual_seed(1)
    for momentum in (0.9, 0.996, 1.0):
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(torch.randn_like(parameter))
        update_teacher(teacher, student, momentum, COUNTS)
        for i, parameter in enumerate(student.parameters()):
            expected[i] = momentum * expected[i] + (1 - momentum) * parameter.double()
    for ours, theirs in zip(teacher.parameters(), expected, strict=True):
        assert (ours - theirs).abs().max() < 1e-6
    before = [parameter.clone() for parameter in teacher.parameters()]
    update_teacher(teacher, student, 0.5, ~COUNTS)
    for ours, theirs in zip(teacher.parameters(), before, strict=True):
        assert torch.equal(ours, theirs)


# ---- head -----------------------------------------------------------------------------------


def test_the_head_is_dinos() -> None:
    torch.manual_seed(0)
    head = Head(24, HeadConfig(prototypes=40, layers=3, hidden=32, bottleneck=16))
    lengths, directions = head.prototypes.parametrizations.weight.parameters()
    assert lengths.shape == (40, 1) and lengths.requires_grad
    with torch.no_grad():
        lengths.uniform_(0.5, 2)
    x = torch.randn(7, 24, dtype=torch.float64)
    hidden = x
    linears = [layer for layer in head.mlp if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in linears] == [32, 32, 16]
    for i, layer in enumerate(linears):
        hidden = hidden @ layer.weight.double().T + layer.bias.double()
        if i < 2:  # GELU by its definition
            hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    hidden = hidden / hidden.norm(dim=-1, keepdim=True)
    directions = directions.double()
    weight = lengths.double() * directions / directions.norm(dim=1, keepdim=True)
    assert (head(x.float()) - hidden @ weight.T).abs().max() < 1e-5


def test_prototypes_of_unit_length_do_not_learn_their_lengths() -> None:
    head = Head(8, HeadConfig(prototypes=5, hidden=8, bottleneck=4, norm_last_layer=True))
    lengths, directions = head.prototypes.parametrizations.weight.parameters()
    assert not lengths.requires_grad and directions.requires_grad
    assert (head.prototypes.weight.norm(dim=1) - 1).abs().max() < 1e-6


def test_the_lengths_of_prototypes_learn_and_decay() -> None:
    torch.manual_seed(0)
    head = Head(8, HeadConfig(prototypes=5, hidden=8, bottleneck=4))
    optimizer = build_optimizer(head, OptimConfig())
    lengths = head.prototypes.parametrizations.weight.original0
    functional.cross_entropy(head(torch.randn(6, 8)), torch.arange(6) % 5).backward()
    assert (lengths.grad != 0).all()
    for parameter in head.parameters():
        parameter.grad = torch.zeros_like(parameter)  # without a gradient AdamW only decays
    bias = head.mlp[0].bias
    with torch.no_grad():
        bias.fill_(1)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.param_groups[0]["weight_decay"] = 0.4
    optimizer.step()
    assert (lengths - (1 - 0.1 * 0.4)).abs().max() < 1e-6
    assert (bias == 1).all()


def test_logits_are_float32_under_autocast() -> None:
    head = Head(8, HeadConfig(prototypes=5, hidden=8, bottleneck=4))
    with torch.autocast("cpu", torch.bfloat16):
        assert head(torch.randn(3, 8)).dtype == torch.float32


# ---- optimizer ------------------------------------------------------------------------------


def test_matrices_decay_and_vectors_do_not() -> None:
    student, _ = build_networks(small_config(), CPU)
    optimizer = build_optimizer(student, OptimConfig())
    decayed, plain = optimizer.param_groups
    names = {id(parameter): name for name, parameter in student.named_parameters()}
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert all(parameter.ndim == 1 for parameter in plain["params"])
    assert "head.prototypes.parametrizations.weight.original0" in {
        names[id(parameter)] for parameter in decayed["params"]
    }
    assert len(decayed["params"]) + len(plain["params"]) == len(names)
    apply_schedule(optimizer, values_at(recipe("icann22-paper-cifar10"), 10_000, 195))
    assert decayed["weight_decay"] > 0.04 and plain["weight_decay"] == 0


def test_steps_are_adamws() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 4)
    optimizer = build_optimizer(layer, OptimConfig())
    w, b = layer.weight.detach().double(), layer.bias.detach().double()
    moments = [[torch.zeros_like(x), torch.zeros_like(x)] for x in (w, b)]
    expected = [w, b]
    for step in range(1, 6):
        values = values_at(small_config(), step * 30, 96)
        apply_schedule(optimizer, values)
        for parameter, value, (m, v), decay in zip(
            (layer.weight, layer.bias), expected, moments, (values.weight_decay, 0.0), strict=True
        ):
            parameter.grad = torch.randn_like(parameter)
            g = parameter.grad.double()
            value.mul_(1 - values.lr * decay)
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g * g)
            hat_m, hat_v = m / (1 - 0.9**step), v / (1 - 0.999**step)
            value.sub_(values.lr * hat_m / (hat_v.sqrt() + 1e-8))
        optimizer.step()
    assert (layer.weight - expected[0]).abs().max() < 1e-6
    assert (layer.bias - expected[1]).abs().max() < 1e-6


def test_each_parameter_is_clipped_by_its_own_norm() -> None:
    torch.manual_seed(0)
    drawn = [torch.randn(50, 50), torch.randn(3) * 0.1, torch.zeros(4), torch.randn(9) * 10]
    gradients = [gradient.clone() for gradient in drawn]
    norms = clip_each(gradients, 3.0)
    for ours, norm, gradient in zip(gradients, norms, drawn, strict=True):
        own = float(gradient.double().norm())
        assert float(norm) == pytest.approx(own, rel=1e-6)
        expected = gradient.double() * min(1.0, 3.0 / (own + 1e-6))  # DINO's clip_gradients
        assert (ours - expected).abs().max() < 1e-6
    assert torch.equal(gradients[1], drawn[1])  # short gradients stay
    before = [gradient.clone() for gradient in gradients]
    assert float(clip_each(gradients, 0)[0]) == pytest.approx(3.0, rel=1e-6)
    assert all(torch.equal(*pair) for pair in zip(gradients, before, strict=True))


def test_apex_is_asked_for_by_name_and_recognised(monkeypatch, tmp_path) -> None:
    layer = torch.nn.Linear(2, 2)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UserError, match="not installed"):
        build_optimizer(layer, OptimConfig(impl="apex"))
    package = tmp_path / "apex"
    package.mkdir()
    for body in ("from pyramid.config import Configurator", ""):  # PyPI's apex
        (package / "__init__.py").write_text(body)
        importlib.invalidate_caches()
        with pytest.raises(UserError, match=r"apex/__init__.py is not a working NVIDIA apex"):
            build_optimizer(layer, OptimConfig(impl="apex"))
        sys.modules.pop("apex", None)
    (package / "optimizers.py").write_text("class FusedAdam: pass")
    importlib.invalidate_caches()
    with pytest.raises(UserError, match="needs CUDA"):
        build_optimizer(layer, OptimConfig(impl="apex"))
    for name in ("apex", "apex.optimizers"):
        sys.modules.pop(name, None)


# ---- model ----------------------------------------------------------------------------------


def test_the_feature_is_the_cls_token_and_local_views_use_an_interpolated_grid() -> None:
    torch.manual_seed(0)
    backbone = build_backbone(small_config().model, 28, CPU).eval()
    with torch.no_grad():
        backbone.pos_embed.normal_()
        for side, tokens in ((28, 4), (14, 2)):
            x = torch.randn(3, 3, side, side)
            grid = backbone.pos_embed[:, 1:].reshape(1, 4, 4, 96).permute(0, 3, 1, 2)
            if tokens != 4:
                grid = functional.interpolate(
                    grid, (tokens, tokens), mode="bicubic", antialias=True, align_corners=False
                )
            grid = grid.permute(0, 2, 3, 1).reshape(1, -1, 96)
            patches = backbone.patch_embed.proj(x).flatten(2).transpose(1, 2) + grid
            cls = (backbone.cls_token + backbone.pos_embed[:, :1]).expand(3, -1, -1)
            hidden = torch.cat([cls, patches], 1)
            for block in backbone.blocks:
                hidden = block(hidden)
            expected = functional.layer_norm(
                hidden, (96,), backbone.norm.weight, backbone.norm.bias, backbone.norm.eps
            )[:, 0]
            assert (backbone(x) - expected).abs().max() < 1e-5


def test_one_forward_of_two_sizes_equals_two() -> None:
    student, _ = build_networks(small_config(), CPU)
    large, small = torch.randn(4, 3, 28, 28), torch.randn(6, 3, 14, 14)
    (of_large, of_small), features = student([large, small], [None, None])
    for view, logits, feature in zip(
        (large, small), (of_large, of_small), features.split([4, 6]), strict=True
    ):
        (alone,), own = student([view], [None])
        assert (logits - alone).abs().max() < 1e-5 and (feature - own).abs().max() < 1e-5
        assert (student.head(own) - alone).abs().max() < 1e-5


def test_networks_are_a_function_of_the_seed_and_start_equal() -> None:
    student, teacher = build_networks(small_config(), CPU)
    again, _ = build_networks(small_config(), CPU)
    other, _ = build_networks(small_config(seed=1), CPU)
    untrained = untrained_backbone(small_config(), CPU).state_dict()
    for name, value in student.state_dict().items():
        assert torch.equal(value, teacher.state_dict()[name])
        assert torch.equal(value, again.state_dict()[name])
    for name, value in student.backbone.state_dict().items():
        assert torch.equal(value, untrained[name])
    assert not torch.equal(student.head.mlp[0].weight, other.head.mlp[0].weight)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


# ---- the short forward pass -----------------------------------------------------------------

PLAIN = {
    "as it is built": {},
    "layer scale, norms of queries and keys, registers, no bias": {
        "init_values": 0.5,
        "qk_norm": True,
        "reg_tokens": 2,
        "qkv_bias": False,
    },
}
"""Options of ViTs of timm whose class token the short pass must give."""


def random_vit(**options) -> VisionTransformer:
    """Return a ViT in float64 whose parameters are all large enough to matter."""
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=28, patch_size=7, embed_dim=24, depth=3, num_heads=3, num_classes=0,
        global_pool="token", dynamic_img_size=True, **options,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return vit.double()


def feature_and_gradients(vit: torch.nn.Module, function, *args) -> list[torch.Tensor]:
    """Return the output of `function`, and the gradients of a random projection of it."""
    vit.zero_grad()
    feature = function(*args)
    weights = torch.randn(feature.shape, generator=torch.Generator().manual_seed(1))
    (feature * weights).sum().backward()
    return [feature.detach(), *(parameter.grad.clone() for parameter in vit.parameters())]


def assert_close(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() < 1e-12 * max(1.0, float(other.abs().max()))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("options", PLAIN.values(), ids=list(PLAIN))
@pytest.mark.parametrize("side", [28, 14])
def test_the_short_pass_is_timms_own(side, options, fused) -> None:
    vit = random_vit(**options)
    for block in vit.blocks:
        block.attn.fused_attn = fused
    assert is_plain_vit(vit)
    views = torch.randn(5, 3, side, side, dtype=torch.float64)
    assert_close(
        feature_and_gradients(vit, cls_feature, vit, views), feature_and_gradients(vit, vit, views)
    )


@pytest.mark.parametrize("side", [28, 14])
def test_stochastic_depth_scales_each_branch_of_each_view(side) -> None:
    vit = random_vit()
    views = torch.randn(6, 3, side, side, dtype=torch.float64)
    scales = draw_branch_scales(3, 0.6, 1, 6, seed=0, step=0)[:, :, 0]
    assert (scales[1:] == 0).any((1, 2)).all()  # some branches are skipped, also in the last block
    ours = feature_and_gradients(vit, cls_feature, vit, views, scales)
    assert_close(ours, feature_and_gradients(vit, plain_feature, vit, views, scales))
    assert (ours[0] - cls_feature(vit, views)).abs().max() > 0.1


def test_blocks_that_are_computed_again_give_the_same_bits() -> None:
    vit = random_vit().float()
    views, scales = torch.randn(6, 3, 28, 28), draw_branch_scales(3, 0.6, 1, 6, 0, 0)[:, :, 0]
    passes = []
    vit.blocks[1].norm1.register_forward_hook(lambda *_: passes.append(1))
    kept = feature_and_gradients(vit, cls_feature, vit, views, scales)
    assert len(passes) == 1
    again = feature_and_gradients(vit, cls_feature, vit, views, scales, True)
    assert len(passes) == 3
    assert all(torch.equal(one, other) for one, other in zip(kept, again, strict=True))


@pytest.mark.parametrize(
    "options",
    [{"global_pool": "avg"}, {"global_pool": "map"}, {"scale_attn_norm": True}],
    ids=["mean of tokens", "attention pool", "norm in the attention"],
)
def test_other_vits_are_not_taken_for_plain_ones(options) -> None:
    options = {"global_pool": "token", "num_classes": 0} | options
    assert not is_plain_vit(
        VisionTransformer(img_size=28, patch_size=7, embed_dim=24, depth=1, num_heads=3, **options)
    )


# ---- stochastic depth -----------------------------------------------------------------------


def test_rates_of_stochastic_depth_rise_linearly_by_block() -> None:
    rates = (0.0, 0.1, 0.2, 0.3)  # DINO's linspace(0, drop_path, depth)
    scales = draw_branch_scales(4, 0.3, views=20, global_batch=1000, seed=3, step=5)
    assert scales.shape == (4, 2, 20, 1000) and scales.dtype == torch.float32
    for rate, block in zip(rates, scales.double(), strict=True):
        assert set(np.unique(block)) <= {0.0, float(np.float32(1) / np.float32(1 - rate))}
        for branch in block:
            deviation = math.sqrt(rate * (1 - rate) / 20_000)
            assert abs(float((branch == 0).double().mean()) - rate) <= 4 * deviation
            assert abs(float(branch.mean()) - 1) <= 4 * deviation / (1 - rate) + 1e-6
        both = float((block == 0).all(0).double().mean())  # the two branches are independent
        assert abs(both - rate**2) <= 4 * math.sqrt(rate**2 * (1 - rate**2) / 20_000)


def test_stochastic_depth_is_a_function_of_seed_and_step() -> None:
    drawn = [draw_branch_scales(3, 0.5, 4, 8, *of) for of in [(0, 0), (0, 0), (0, 1), (1, 0)]]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[3])
    assert draw_branch_scales(3, 0.0, 4, 8, 0, 0) is None


@pytest.mark.parametrize(("ranks", "micro_batch"), [(1, 0), (1, 5), (3, 0), (3, 3)])
def test_ranks_and_micro_batches_share_the_draws_of_the_global_batch(ranks, micro_batch) -> None:
    model = dataclasses.replace(small_config().model, drop_path=0.5)
    config = small_config(global_batch=12, micro_batch=micro_batch, model=model, seed=7)
    whole = draw_branch_scales(3, 0.5, 3 + 4, 12, 7, 9)  # 3 global views, then 4 local ones
    found = []
    for rank in range(ranks):
        ids = torch.arange(12 // ranks)
        batch = Batch(
            9,
            ids.double().expand(3, -1).reshape(3, -1, 1, 1, 1),
            ids.double().expand(4, -1).reshape(4, -1, 1, 1, 1),
            ids,
            None,
        )
        parts = list(micro_batches(config, World(rank, ranks, CPU), 9, batch, config.model.depth))
        assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]
        assert sum(part.share for part in parts) == pytest.approx(1, abs=1e-15)
        assert torch.equal(torch.cat([p.global_views for p in parts], 1), batch.global_views)
        assert torch.equal(torch.cat([p.local_views for p in parts], 1), batch.local_views)
        for part in parts:
            of_global, of_local = part.scales
            found.append(
                torch.cat([of_global.unflatten(2, (3, -1)), of_local.unflatten(2, (4, -1))], 2)
            )
    assert torch.equal(torch.cat(found, -1), whole)


def test_only_the_student_has_stochastic_depth() -> None:
    student, teacher = build_networks(small_config(), CPU)
    rates = [
        {getattr(block.drop_path1, "drop_prob", 0.0) for block in network.backbone.blocks}
        for network in (student, teacher)
    ]
    assert max(rates[0]) == pytest.approx(0.1) and rates[1] == {0.0}
