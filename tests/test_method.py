"""Schedules, EMA, head, optimizer, clipping and model against their formulas."""

from __future__ import annotations

import dataclasses
import importlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from shards.cli import UserError
from train.config import HeadConfig, OptimConfig, RunConfig
from train.ema import update_teacher
from train.head import Head
from train.model import build_backbone, build_networks, untrained_backbone
from train.optim import apply_schedule, build_optimizer, clip_each
from train.recipes import RECIPES
from train.schedules import values_at

CPU = torch.device("cpu")


def recipe(name: str) -> RunConfig:
    return dataclasses.replace(RECIPES[name](), in_dist=Path("x"), out=Path("y"))


def small_config(**changes) -> RunConfig:
    return dataclasses.replace(recipe("demo-cpu"), **changes)


# ---- schedules ------------------------------------------------------------------------------


def dino_cosine(base, final, epochs, steps_per_epoch, warmup_epochs=0) -> np.ndarray:
    """DINO's schedule as an array over all steps."""
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


def test_presets_have_the_papers_values() -> None:
    config = recipe("icann22-paper-cifar10")
    assert (config.global_batch, config.epochs, config.negatives) == (256, 500, "rot")
    assert (config.model.width, config.model.depth, config.model.patch_px) == (384, 12, 16)
    assert (config.views.global_px, config.views.local_px, config.views.local_views) == (
        256,
        128,
        8,
    )
    assert (config.head.prototypes, config.loss.negative_weight) == (4096, 1.0)
    assert recipe("icann22-code-cifar10").global_batch == 128
    for name in RECIPES:
        recipe(name).check()


# ---- EMA ------------------------------------------------------------------------------------


def test_the_teacher_is_the_moving_average_of_the_student() -> None:
    student, teacher = build_networks(small_config(), CPU)
    expected = [parameter.double().clone() for parameter in teacher.parameters()]
    torch.manual_seed(1)
    for momentum in (0.9, 0.996, 1.0):
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(torch.randn_like(parameter))
        update_teacher(teacher, student, momentum)
        for i, parameter in enumerate(student.parameters()):
            expected[i] = momentum * expected[i] + (1 - momentum) * parameter.double()
    for ours, theirs in zip(teacher.parameters(), expected, strict=True):
        assert (ours - theirs).abs().max() < 1e-6


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
    gradients = [torch.randn(50, 50), torch.randn(3) * 0.1, torch.zeros(4), torch.randn(9) * 10]
    parameters = [torch.nn.Parameter(torch.zeros_like(g)) for g in gradients]
    parameters.append(torch.nn.Parameter(torch.zeros(2)))  # has no gradient
    for parameter, gradient in zip(parameters, gradients, strict=False):
        parameter.grad = gradient.clone()
    clip_each(parameters, 3.0)
    for parameter, gradient in zip(parameters, gradients, strict=False):
        expected = gradient * min(1.0, 3.0 / (float(gradient.norm()) + 1e-6))
        assert (parameter.grad - expected).abs().max() < 1e-6
    clip_each(parameters, 0)
    assert float(parameters[0].grad.norm()) == pytest.approx(3.0, rel=1e-4)


def test_apex_is_asked_for_by_name_and_recognised(monkeypatch, tmp_path) -> None:
    layer = torch.nn.Linear(2, 2)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UserError, match="not installed"):
        build_optimizer(layer, OptimConfig(impl="apex"))
    package = tmp_path / "apex"
    package.mkdir()
    for body in ("from pyramid.config import Configurator", ""):  # PyPI's, without and with pyramid
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
    backbone = build_backbone(small_config(), CPU).eval()
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
    student.eval()
    large, small = torch.randn(4, 3, 28, 28), torch.randn(6, 3, 14, 14)
    both = student([large, small])
    assert (both[0] - student([large])[0]).abs().max() < 1e-5
    assert (both[1] - student([small])[0]).abs().max() < 1e-5


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


def test_only_the_student_has_stochastic_depth() -> None:
    student, teacher = build_networks(small_config(), CPU)
    rates = [
        {getattr(block.drop_path1, "drop_prob", 0.0) for block in network.backbone.blocks}
        for network in (student, teacher)
    ]
    assert max(rates[0]) == pytest.approx(0.1) and rates[1] == {0.0}
