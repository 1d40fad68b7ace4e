"""Draw the views that a network is shown: `python -m dali_pipes.preview SHARDS --out views.png`.

The picture has three sheets: the views of a step with the chosen negatives, each augmentation
alone, and each transformation of the negatives alone. All views come from the training loader and
are shown with their original levels of 0..255. `python -m train.preview` draws the views of a
recipe or of a run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from PIL import Image

from dali_pipes.batch import Batch, ViewSpec
from dali_pipes.config import LoaderConfig
from dali_pipes.negatives import parse_negatives
from dali_pipes.shifts.table import SHIFTS, shift_named
from shards.disk.publish import replace_file
from shards.errors import UserError
from shards.pixels.decode import encode
from shards.reader import ShardSet
from shards.terminal import cli

SHOWN_PX = 112
"""Smaller views are enlarged by a whole factor, until their global views are nearly this wide."""


@dataclass(frozen=True)
class PreviewConfig:
    """The set, the views and the size of the preview."""

    shards: tyro.conf.Positional[Path]
    """Folder of in-distribution shards."""
    out: Path
    """The PNG to write."""
    aux: Path | None = None
    """Folder of auxiliary shards, for negatives made of them."""
    negatives: str = "rot-in"
    """The strategy of the first sheet; see train/main.py."""
    images: int = 6
    """Number of images; each is one row of every sheet."""
    seed: int = 0
    """Seed of the choice of images and of all random parameters."""
    views: ViewSpec = field(default_factory=ViewSpec)
    loader: LoaderConfig = field(default_factory=LoaderConfig)


def whole_image(views: ViewSpec) -> ViewSpec:
    """Return a spec whose global views are the whole image, unchanged."""
    return dataclasses.replace(
        views,
        local_views=0,
        global_scale=(1.0, 1.0),
        crop_ratio=(1.0, 1.0),
        flip_p=0.0,
        jitter_p=0.0,
        gray_p=0.0,
        blur_p=(0.0, 0.0, 0.0),
        solarize_p=0.0,
    )


def augmentations(views: ViewSpec, channels: int) -> dict[str, ViewSpec]:
    """Return, for each augmentation, a spec whose second global view has only this one."""
    still = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue_deg": 0.0}
    crop = {"crop_ratio": views.crop_ratio}
    changes: dict[str, dict[str, object]] = {
        "global crop": {"global_scale": views.global_scale, **crop},
        "local crop": {"global_scale": views.local_scale, **crop},
        "flip": {"flip_p": 1.0},
        "brightness": {"jitter_p": 1.0, **still, "brightness": views.brightness},
        "contrast": {"jitter_p": 1.0, **still, "contrast": views.contrast},
        "saturation": {"jitter_p": 1.0, **still, "saturation": views.saturation},
        "hue": {"jitter_p": 1.0, **still, "hue_deg": views.hue_deg},
        "gray": {"gray_p": 1.0},
        "blur": {"blur_p": (1.0, 1.0, 1.0)},
        "solarize": {"solarize_p": 1.0},
    }
    if channels == 1:
        for name in ("saturation", "hue", "gray"):
            del changes[name]
    bare = whole_image(views)
    return {name: dataclasses.replace(bare, **change) for name, change in changes.items()}  # type: ignore[arg-type]


def shift_names() -> list[str]:
    """Return the names of all transformations of negatives, with two usual sizes of perm-N."""
    names = [name for name, shift in SHIFTS.items() if name != "aux" and not shift.early]
    return [*names, "perm-4", "perm-16"]


@cli.keeps("--out is as it was")
def save_preview(config: PreviewConfig) -> None:
    """Draw the views of the first step of a run with this seed, and write the picture.

    Raises:
        UserError: a field is out of range, or a set is not as it was built.
    """
    if config.images < 1:
        raise UserError(f"images is {config.images}, expected at least 1")
    if config.seed < 0:
        raise UserError(f"seed is {config.seed}, expected at least 0")
    if config.out.suffix.lower() != ".png":
        raise UserError(f"out is {config.out}, expected the name of a .png")
    picture = draw_preview(config)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(config.out, [encode(picture, "png")])
    print(f"{config.out}: {config.images} images, their views, augmentations and negatives")


def draw_preview(config: PreviewConfig) -> Image.Image:
    """Draw the three sheets below each other.

    Raises:
        UserError: see `save_preview`.
    """
    # Imported here, because torch takes seconds to import and --help needs none of it.
    import numpy as np
    import torch

    from dali_pipes.loader import TrainLoader
    from dali_pipes.step_plan import StreamOrder
    from dali_pipes.view_sheets import (
        draw_columns,
        input_column,
        stack,
        view_columns,
        view_pictures,
    )

    branches = parse_negatives(config.negatives)
    in_dist = ShardSet.open(config.shards)
    aux = ShardSet.open(config.aux) if config.aux else None

    def first_batch(views: ViewSpec, negatives: str) -> Batch:
        order = StreamOrder(global_batch=config.images, seed=config.seed)
        reads = aux if negatives == config.negatives else None
        cpu = torch.device("cpu")
        return next(TrainLoader(in_dist, reads, views, negatives, order, cpu, config.loader))

    batch = first_batch(config.views, config.negatives)
    images = in_dist.read(batch.in_dist_ids.numpy())
    augmented = [input_column(images, config.views.global_px)]
    shifted = list(augmented)
    for name, views in augmentations(config.views, in_dist.manifest.channels).items():
        augmented.append((name, view_pictures(first_batch(views, "none").pos_global)[1]))
    for name in shift_names():
        try:
            shift_named(name).draw(np.random.default_rng(0), 1, config.views.global_px)
        except UserError:  # a view of this side cannot be cut into so many squares
            continue
        negative = first_batch(whole_image(config.views), f"{name}-in").neg_global
        shifted.append((name, view_pictures(negative)[0]))
    sheets = {
        f"views of a step, negatives {config.negatives}": view_columns(images, batch, branches),
        "each augmentation by itself": augmented,
        "each transformation of the negatives by itself": shifted,
    }
    zoom = max(1, SHOWN_PX // config.views.global_px)
    return stack([draw_columns(title, columns, zoom) for title, columns in sheets.items()])


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the preview that the command line asks for."""
    save_preview(cli.parse(PreviewConfig, argv, description=__doc__))


if __name__ == "__main__":
    cli.run(main)
