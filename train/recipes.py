"""Named runs. A recipe's docstring holds its command, hardware, time and expected result.

Every field can be overridden on the command line: `train/main.py RECIPE --optim.lr-base 0.002`.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from dali_pipes.batch import ViewSpec
from dali_pipes.config import LoaderConfig
from shards.errors import UserError
from shards.reader import ShardSet
from shards.terminal import cli
from shards.terminal.mistakes import HELP, did_you_mean
from train.config import (
    CompatConfig,
    HeadConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
)

BLUR_SIGMA_256_PX = (0.1 * 256 / 224, 2.0 * 256 / 224)
"""The authors scale DINO's blur, made for views of 224 px, to their 256."""


def demo_cpu() -> RunConfig:
    """Minutes on two CPU cores: small images, rotated in-distribution negatives.

    `train/main.py demo-cpu --in-dist out/shards/in-dist-train --out out/run`; README has its time
    and its result on the sample. Chosen on validation images that are none of the sample's test
    images (`python -m shards.sample.remake --part validation`), where the paper's K, tau_t and
    lambda stayed at the uniform response and larger local crops than the paper's were better: a
    crop of 15 % of 28 px is a patch of 11 px.
    """
    return RunConfig(
        in_dist=tyro.MISSING,
        out=tyro.MISSING,
        negatives="rot-in",
        epochs=12,
        global_batch=64,
        checkpoint_steps=384,
        loader=LoaderConfig(threads=2),
        views=ViewSpec(
            global_px=28,
            local_px=14,
            local_views=4,
            local_scale=(0.25, 0.6),
            blur_sigma_px=(0.1, 0.5),
        ),
        model=ModelConfig(patch_px=7, width=96, depth=3, heads=3),
        head=HeadConfig(prototypes=256, hidden=512, bottleneck=64),
        loss=LossConfig(negative_weight=0.5, teacher_temp_start=0.02, teacher_temp_end=0.02),
        optim=OptimConfig(lr_base=0.008, warmup_epochs=1.5, freeze_last_layer_epochs=0.5),
    )


SMALL_SAMPLES, PAPER_SAMPLES = 6144, 50_000
"""Sizes of the sets for which `demo-cpu` and the paper's run were tuned."""
LITTLE_SIDE_PX = 64
"""Images of at most this side get the small network, on views of their own size."""
LEAST_STEPS = 1100


def auto(
    samples: int = SMALL_SAMPLES,
    side_px: int = 28,
    network: str = "vit",
    epochs: int | None = None,
    global_batch: int | None = None,
) -> RunConfig:
    """K, temperatures, lambda and the length of the run by the number and size of your images.

    `train/main.py auto --in-dist SHARDS --out RUN`; any field given besides counts. Images of up to
    64 px get the small network of `demo-cpu` on views of their own size: minutes on two CPU cores.
    Larger ones get the paper's network and views: a GPU is needed, or patience. What depends on
    the number of images goes, in its logarithm, from `demo-cpu`'s value at 6,144 images to the
    paper's at 50,000. Fewer images are passed over more often, for 1,100 steps at least. Warm-up
    and freezing follow the length. Lambda has no ramp, as in the runs between which this lies;
    `--loss.negative-warmup-epochs` makes one. `--dry-run` shows what comes out, and its time.
    """
    demo, paper = demo_cpu(), icann22_paper_cifar10()
    small = side_px <= LITTLE_SIDE_PX
    base = demo if small else dataclasses.replace(paper, negatives="rot-in")
    place = math.log(samples / SMALL_SAMPLES) / math.log(PAPER_SAMPLES / SMALL_SAMPLES)
    place = min(max(place, 0.0), 1.0)

    def between(at_demo: float, at_paper: float) -> float:
        return at_demo + (at_paper - at_demo) * place

    octaves = between(math.log2(demo.head.prototypes), math.log2(paper.head.prototypes))
    batch = global_batch or min(base.global_batch, samples)
    steps_per_epoch = max(1, samples // batch)
    epochs = epochs or max(base.epochs, math.ceil(LEAST_STEPS / steps_per_epoch))
    model = base.model
    if network != "vit":  # which has sizes of its own
        model = ModelConfig()
    elif small:
        model = dataclasses.replace(demo.model, patch_px=_patch_px(side_px))
    return dataclasses.replace(
        base,
        epochs=epochs,
        global_batch=batch,
        views=_views_of(side_px, demo.views) if small else base.views,
        model=model,
        head=dataclasses.replace(base.head, prototypes=2 ** round(octaves)),
        loss=dataclasses.replace(
            base.loss,
            negative_weight=between(demo.loss.negative_weight, paper.loss.negative_weight),
            teacher_temp_start=between(demo.loss.teacher_temp_start, paper.loss.teacher_temp_start),
            teacher_temp_end=between(demo.loss.teacher_temp_end, paper.loss.teacher_temp_end),
        ),
        optim=dataclasses.replace(
            base.optim,
            warmup_epochs=base.optim.warmup_epochs * epochs / base.epochs,
            freeze_last_layer_epochs=base.optim.freeze_last_layer_epochs * epochs / base.epochs,
        ),
    )


def _patch_px(side_px: int) -> int:
    """A grid of 4 x 4 patches for small images, 8 x 8 for others."""
    return max(1, side_px // (4 if side_px <= 40 else 8))


def _views_of(side_px: int, views: ViewSpec) -> ViewSpec:
    """Global views of whole patches that fill the image, local ones of half that side."""
    patch_px = _patch_px(side_px)
    global_px = side_px // (2 * patch_px) * 2 * patch_px
    return dataclasses.replace(views, global_px=global_px, local_px=global_px // 2)


def icann22_paper_cifar10() -> RunConfig:
    """The paper's run with CIFAR-10 as in-distribution (section 4), rotated ImageNet as negatives.

    `torchrun --nproc-per-node 4 train/main.py icann22-paper-cifar10 --in-dist SHARDS/cifar10-train
    --aux SHARDS/imagenet-train --out RUN`; `--negatives combined` for the other column of Table 1.
    Hardware: 4 GPUs of 40 GB in the paper; its time is not stated and was not measured here.
    Expected (Table 1, AUROC %): CIFAR100 92.51, SVHN 99.69, ImageNet30 94.16, TinyImageNet 96.28,
    LSUN 98.08, STL10 77.29, Places365 97.14, Texture 99.16;
    with Combined 94.20, 99.92, 93.40, 95.02, 97.52, 74.34, 96.01, 98.69.
    """
    return RunConfig(
        in_dist=tyro.MISSING,
        out=tyro.MISSING,
        negatives="rot",
        views=ViewSpec(blur_sigma_px=BLUR_SIGMA_256_PX),
    )


def icann22_paper_cifar100() -> RunConfig:
    """The paper's run with CIFAR-100 as in-distribution: tau_t starts at 0.050 (section 4).

    Command and hardware as `icann22-paper-cifar10`, with the shards of CIFAR-100.
    Expected (Table 1, AUROC %): CIFAR10 69.96, SVHN 96.00, ImageNet30 84.82, TinyImageNet 81.41,
    LSUN 85.03, STL10 79.96, Places365 81.67, Texture 80.65;
    with Combined 67.63, 97.17, 75.36, 79.75, 74.55, 71.70, 72.79, 77.33.
    """
    return _starting_at(0.050)


def icann22_code_cifar10() -> RunConfig:
    """What the authors' public code runs: half the batch, hence half the rate, float32, quirks.

    Command and hardware as `icann22-paper-cifar10`; its centre follows two rows of each rank, so
    that their run is the one on four ranks. As it is, it is their README's command, which leaves
    both negative sources on: `combined`. Their `--aux_only true` is `--negatives rot`, their
    `--indist_only true` is `--negatives rot-in`; the other `--neg_aug` are `rot90x4`, `perm-4`,
    `perm-16`, `pixperm` and `aux`. Every switch of `compat` is on: `centre_first_rows`,
    `aux_replayed`, `loss_x1_5` (no effect on `combined`, as in their code), `rot_any` and
    `rot_any_early` (of `rot90x4`), `dino_positions`, `dino_class_token`; each goes off by its name,
    `--compat.no-aux-replayed`. What is not theirs even so is in docs/training.md.
    The figures of Table 1 may be of that code; its time is not stated and was not measured here.
    """
    return _starting_at(
        0.04,
        global_batch=128,
        precision="fp32",
        negatives="combined",
        compat=CompatConfig(
            centre_first_rows=True,
            aux_replayed=True,
            loss_x1_5=True,
            rot_any=True,
            rot_any_early=True,
            dino_positions=True,
            dino_class_token=True,
        ),
    )


def _starting_at(teacher_temp: float, **values: Any) -> RunConfig:
    """The paper's run with CIFAR-10, with another tau_t at the start and other `values`."""
    config = icann22_paper_cifar10()
    loss = dataclasses.replace(config.loss, teacher_temp_start=teacher_temp)
    return dataclasses.replace(config, loss=loss, **values)


RECIPES: dict[str, Callable[[], RunConfig]] = {
    "auto": auto,
    "demo-cpu": demo_cpu,
    "icann22-paper-cifar10": icann22_paper_cifar10,
    "icann22-paper-cifar100": icann22_paper_cifar100,
    "icann22-code-cifar10": icann22_code_cifar10,
}


def parse_run(argv: Sequence[str] | None, **options: Any) -> RunConfig:
    """The run that a command line asks for: a recipe, and fields that override it.

    Raises:
        UserError: no recipe, an unknown option, or no shards for `auto` to look at.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    asks_for_help = not HELP.isdisjoint(argv)
    if not argv or (argv[0] not in RECIPES and not asks_for_help):
        given = f"{argv[0]!r} is no recipe" if argv else "no recipe is named"
        hint = did_you_mean(argv[0], RECIPES) if argv else ""
        raise UserError(f"{given}; first comes one of {', '.join(RECIPES)}{hint}")
    recipes = {name: recipe() for name, recipe in RECIPES.items()}
    if argv[0] != "auto":
        return _parse(recipes, argv, **options)
    named = {option.partition("=")[0].replace("_", "-") for option in argv}
    if asks_for_help and "--in-dist" not in named:
        recipes["auto"] = _by_the_set(
            [auto(), auto(PAPER_SAMPLES), auto(side_px=2 * LITTLE_SIDE_PX)]
        )
        return _parse(recipes, argv, **options)
    if asks_for_help:
        recipes["auto"] = dataclasses.replace(recipes["auto"], out=Path())
    config = _parse(recipes, [word for word in argv if word not in HELP], **options)
    height, width, _ = (shards := ShardSet.open(config.in_dist)).manifest.sample_shape
    recipes["auto"] = auto(
        len(shards),
        max(height, width),
        config.model.name,
        config.epochs if "--epochs" in named else None,
        config.global_batch if "--global-batch" in named else None,
    )
    return _parse(recipes, argv, **options)


class _Unseen:
    """A number that depends on the set, in a help that does not know the set."""

    def __str__(self) -> str:
        return "by-the-set"


class _UnseenInt(_Unseen, int):
    pass


class _UnseenFloat(_Unseen, float):
    pass


def _by_the_set(configs: Sequence[Any]) -> Any:
    """The first of several configurations, whose numbers print as unknown where they differ."""

    def unseen(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(unseen, value))
        return (_UnseenInt if isinstance(value, int) else _UnseenFloat)(value)

    changed = {}
    for field in dataclasses.fields(configs[0]):
        first, *others = (getattr(config, field.name) for config in configs)
        if dataclasses.is_dataclass(first):
            changed[field.name] = _by_the_set([first, *others])
        elif any(other != first for other in others):
            changed[field.name] = unseen(first)
    return dataclasses.replace(configs[0], **changed)


def _parse(recipes: dict[str, RunConfig], argv: list[str], **options: Any) -> RunConfig:
    described = {name: RECIPES[name].__doc__ or "" for name in recipes}
    kinds = tyro.extras.subcommand_type_from_defaults(recipes, described)
    return cli.parse(kinds, argv, config=(tyro.conf.AvoidSubcommands,), **options)
