"""Draw the views that a network sees: `python -m dali_pipes.preview SHARDS --out FILE.png`.

The picture has three sheets. The first shows the views of a training step with the chosen
negatives. The second shows each augmentation alone. The third shows each transformation of the
negatives alone. All views come from the training loader; the normalisation is undone, so they are
shown in their original levels of 0..255. `python -m train.preview` draws the views of a recipe or
of a run.
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
"""The approximate width of a global view in the picture, in pixels. Smaller views are enlarged by a
whole factor, so that their width is at most this value."""


@dataclass(frozen=True)
class PreviewConfig:
    """The options of a preview: the sets, the views, and the number of images."""

    shards: tyro.conf.Positional[Path]
    """Folder of the in-distribution shard set."""
    out: Path
    """PNG file to write; an existing file is replaced."""
    aux: Path | None = None
    """Folder of the auxiliary shard set, if the negatives are made of auxiliary images."""
    negatives: str = "rot-in"
    """Strategy for the negatives on the first sheet. Strategies are explained in
    dali_pipes/negatives.py."""
    images: int = 6
    """Number of images. Each image is one row of every sheet."""
    seed: int = 0
    """Seed for the choice of images and for all random parameters of the views."""
    views: ViewSpec = field(default_factory=ViewSpec)
    loader: LoaderConfig = field(default_factory=LoaderConfig)


def whole_image(views: ViewSpec) -> ViewSpec:
    """Return a copy of `views` with which each global view is the whole image, without any change.

    Such a view is only resized, and there are no local views.
    """
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
    """Return one spec per augmentation, by name.

    With this spec, the second global view shows the whole image with this augmentation only.

    Args:
        views: The spec from which the ranges of the augmentations are taken.
        channels: 3, or 1 for gray images, which have no saturation and no hue.
    """
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
    """Return the names of the transformations that the third sheet shows.

    These are all transformations of negatives that change a finished view. The family perm-N is
    shown with N = 4 and N = 16.
    """
    names = [name for name, shift in SHIFTS.items() if name != "aux" and not shift.early]
    return [*names, "perm-4", "perm-16"]


@cli.keeps("--out is as it was")
def save_preview(config: PreviewConfig) -> None:
    """Draw the views of the first training step with this seed, and write the picture to a file.

    Raises:
        UserError: A field is out of range, or a set was changed since it was built.
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
    """Draw the three sheets, one below the other, and return the picture.

    Raises:
        UserError: As in `save_preview`.
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
    """Read the options from the command line, draw the preview and write it."""
    save_preview(cli.parse(PreviewConfig, argv, description=__doc__))


if __name__ == "__main__":
    cli.run(main)
