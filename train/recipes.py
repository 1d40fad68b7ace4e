"""Recipes: named configurations. A recipe's docstring has its command, hardware, time and result.

The command line can override every field: `train/main.py RECIPE --optim.lr-base 0.002`.
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
"""Range of the blur's standard deviation in pixels. The authors scale DINO's range for views of 224
px to their views of 256 px."""


def demo_cpu() -> RunConfig:
    """Train in minutes on two CPU cores: small images, rotated in-distribution negatives.

    `train/main.py demo-cpu --in-dist out/shards/in-dist-train --out out/run`. The README has the
    training time of this recipe and its result on the sample. The values were chosen on validation
    images, which are not among the test images of the sample (`python -m shards.sample.remake
    --part validation`). On these images, a training with the paper's K, tau_t and lambda did not
    learn: the output of the networks stayed uniform over the K prototypes. Local crops larger than
    the paper's gave a better AUROC, because images of 28 px are so small: 15 % of their area is a
    square of 11 px.
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
"""Number of training images that `demo-cpu` and the paper's run were tuned for."""
LITTLE_SIDE_PX = 64
"""Largest side of images that get the small network, on views of their own size."""
LEAST_STEPS = 1100
"""Smallest number of steps of a run of `auto`."""


def auto(
    samples: int = SMALL_SAMPLES,
    side_px: int = 28,
    network: str = "vit",
    epochs: int | None = None,
    global_batch: int | None = None,
) -> RunConfig:
    """Choose K, temperatures, lambda and the number of epochs for the number and size of images.

    `train/main.py auto --in-dist SHARDS --out RUN`; fields that you give are kept. Images of up to
    64 px get the small network of `demo-cpu` on views of their own size: minutes on two CPU cores.
    Larger images get the paper's network and views and need a GPU. Values that depend on the
    number of images are interpolated in its logarithm, from `demo-cpu`'s value at 6,144 images to
    the paper's value at 50,000. Small sets get more epochs, so that a run has at least 1,100
    steps. The epochs of warm-up and of freezing are scaled with the epochs. Lambda has no warm-up,
    as in `demo-cpu` and the paper; `--loss.negative-warmup-epochs` adds one. `--dry-run` prints the
    chosen values and the time that the run takes.
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
    if network != "vit":  # a network of timm has its own sizes
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
    """Return the patch side for a grid of 4 x 4 patches in small images, 8 x 8 in others."""
    return max(1, side_px // (4 if side_px <= 40 else 8))


def _views_of(side_px: int, views: ViewSpec) -> ViewSpec:
    """Return global views of whole patches that fill the image, and local views half as wide."""
    patch_px = _patch_px(side_px)
    global_px = side_px // (2 * patch_px) * 2 * patch_px
    return dataclasses.replace(views, global_px=global_px, local_px=global_px // 2)


def icann22_paper_cifar10() -> RunConfig:
    """Run the paper's experiment on CIFAR-10 (section 4) with rotated ImageNet as negatives.

    `torchrun --nproc-per-node 4 train/main.py icann22-paper-cifar10 --in-dist SHARDS/cifar10-train
    --aux SHARDS/imagenet-train --out RUN`. `--negatives combined` is the other column of Table 1.
    Hardware: 4 GPUs of 40 GB in the paper. The paper states no time; it was not measured here.
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
    """Run the paper's experiment on CIFAR-100: tau_t starts at 0.050 (section 4).

    Command and hardware: as for `icann22-paper-cifar10`, with the shards of CIFAR-100.
    Expected (Table 1, AUROC %): CIFAR10 69.96, SVHN 96.00, ImageNet30 84.82, TinyImageNet 81.41,
    LSUN 85.03, STL10 79.96, Places365 81.67, Texture 80.65;
    with Combined 67.63, 97.17, 75.36, 79.75, 74.55, 71.70, 72.79, 77.33.
    """
    return _starting_at(0.050)


def icann22_code_cifar10() -> RunConfig:
    """Run what the authors' public code runs: half the batch and learning rate, float32, quirks.

    Command and hardware: as for `icann22-paper-cifar10`. Use four ranks as they did, because the
    centre follows two rows of each rank. The defaults are the command of their README, which has
    both kinds of negatives on: `combined`. Their `--aux_only true` is `--negatives rot` here, their
    `--indist_only true` is `--negatives rot-in`, and their other values of `--neg_aug` are
    `rot90x4`, `perm-4`, `perm-16`, `pixperm` and `aux`. Every switch of `compat` is on:
    `centre_first_rows`, `aux_replayed`, `loss_x1_5` (no effect on `combined`, as in their code),
    `rot_any` and `rot_any_early` (both for `rot90x4`), `dino_positions`, `dino_class_token`.
    `--compat.no-aux-replayed` switches one off, and so on. docs/training.md lists the differences
    that remain. The figures of Table 1 may come from that code. No time is stated; it was not
    measured here.
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
    """Return the paper's run on CIFAR-10 with another tau_t at the start and other `values`."""
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
    """Read a command line: the name of a recipe, and options that override its fields.

    Args:
        argv: the arguments; None = those of the process.
        options: `prog` and `description` of the help text, for `shards.terminal.cli.parse`.

    Raises:
        UserError: there is no such recipe or option, or `auto` cannot open the shards.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    asks_for_help = not HELP.isdisjoint(argv)
    if not argv or (argv[0] not in RECIPES and not asks_for_help):
        given = f"{argv[0]!r} is no recipe" if argv else "no recipe is named"
        hint = did_you_mean(argv[0], RECIPES) if argv else ""
        raise UserError(f"{given}; the first argument is one of {', '.join(RECIPES)}{hint}")
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
    """A number that depends on the set, in a help text that is printed without a set."""

    def __str__(self) -> str:
        return "by-the-set"


class _UnseenInt(_Unseen, int):
    pass


class _UnseenFloat(_Unseen, float):
    pass


def _by_the_set(configs: Sequence[Any]) -> Any:
    """Return the first of `configs`; each value in which they differ prints as `by-the-set`."""

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
