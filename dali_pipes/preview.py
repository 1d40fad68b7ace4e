"""`python -m dali_pipes.preview SHARDS --out views.png`: what the network will be shown.

Three sheets in one picture: the views of a step with the chosen negatives, each augmentation by
itself, and each transformation of the negatives by itself. All of it comes from the loader of the
training, denormalised. `python -m train.preview` draws the views of a recipe, or of a run.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image, ImageDraw, ImageFont

from dali_pipes.batch import Batch, ViewSpec
from dali_pipes.config import LoaderConfig
from dali_pipes.loader import TrainLoader
from dali_pipes.negatives import NegativeSource, parse_negatives
from dali_pipes.normalised import levels_of
from dali_pipes.shifts import SHIFTS, shift_named
from dali_pipes.step_plan import StreamOrder
from shards.disk import replace_file
from shards.errors import UserError
from shards.reader import ShardSet
from shards.terminal import cli

MARGIN_PX, TITLE_PX, HEAD_PX = 6, 22, 30
SHOWN_PX = 112
"""Pixels of smaller views are drawn as squares, as large as global views of this side allow."""

Column = tuple[str, Sequence[Image.Image]]
"""A title, and a picture for each image."""


@dataclass(frozen=True)
class PreviewConfig:
    """What to draw."""

    shards: tyro.conf.Positional[Path]
    """Folder of in-distribution shards."""
    out: Path
    """The PNG to write."""
    aux: Path | None = None
    """Folder of auxiliary shards, for negatives made of them."""
    negatives: str = "rot-in"
    """The strategy of the first sheet; see train/main.py."""
    images: int = 6
    """Rows of each sheet, one image each."""
    seed: int = 0
    """Of the choice of images and of every draw."""
    views: ViewSpec = field(default_factory=ViewSpec)
    loader: LoaderConfig = field(default_factory=LoaderConfig)


def whole_image(views: ViewSpec) -> ViewSpec:
    """A spec whose global views are the image itself, for one thing to be changed at a time."""
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
    """For each augmentation, a spec that has nothing else in its second global view."""
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
    """All transformations of negatives, the most usual sizes of permutations among them."""
    names = [name for name, shift in SHIFTS.items() if name != "aux" and not shift.early]
    return [*names, "perm-4", "perm-16"]


def view_columns(
    source: np.ndarray, batch: Batch, sources: Sequence[NegativeSource]
) -> list[Column]:
    """The sources of the images, uint8 [B, H, W, C], then all views of `batch`."""
    columns: list[Column] = [("source", _enlarge(source, batch.global_views.shape[-1]))]
    columns += [(f"global {i + 1}", view) for i, view in enumerate(_levels(batch.pos_global))]
    columns += [(f"local {i + 1}", view) for i, view in enumerate(_levels(batch.pos_local))]
    neg_local = batch.neg_local.unflatten(0, (len(sources), -1)) if sources else []
    for number, negative in enumerate(sources):
        columns.append((negative.name, _levels(batch.neg_global)[number]))
        columns += [("- local", view) for view in _levels(neg_local[number])]
    return columns


def _enlarge(images: np.ndarray, side_px: int) -> list[Image.Image]:
    size = (side_px, side_px)
    return [
        Image.fromarray(np.squeeze(image)).resize(size, Image.Resampling.NEAREST)
        for image in images
    ]


def _levels(views: torch.Tensor) -> list[list[Image.Image]]:
    """Normalised [V, B, 3, s, s] -> V columns of B pictures."""
    levels = np.clip(np.rint(levels_of(views)), 0, 255).astype(np.uint8)
    return [[Image.fromarray(image) for image in view] for view in levels]


def _sheet(title: str, columns: Sequence[Column], zoom: int) -> Image.Image:
    columns = [(name, [_zoomed(one, zoom) for one in pictures]) for name, pictures in columns]
    row_px = max(picture.height for _, pictures in columns for picture in pictures) + MARGIN_PX
    font = ImageFont.load_default(12)
    widths = [
        max(pictures[0].width, int(font.getlength(name))) + MARGIN_PX for name, pictures in columns
    ]
    rows = len(columns[0][1])
    size = (sum(widths) + MARGIN_PX, HEAD_PX + TITLE_PX + rows * row_px + MARGIN_PX)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN_PX, 8), title, fill="black", font=ImageFont.load_default(16))
    left = MARGIN_PX
    for (name, pictures), width in zip(columns, widths, strict=True):
        draw.text((left, HEAD_PX + 5), name, fill="black", font=font)
        for row, picture in enumerate(pictures):
            sheet.paste(picture, (left, HEAD_PX + TITLE_PX + row * row_px))
        left += width
    return sheet


def _zoomed(picture: Image.Image, zoom: int) -> Image.Image:
    size = (zoom * picture.width, zoom * picture.height)
    return picture.resize(size, Image.Resampling.NEAREST)


def _stack(sheets: Sequence[Image.Image]) -> Image.Image:
    size = max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)
    picture = Image.new("RGB", size, "white")
    top = 0
    for sheet in sheets:
        picture.paste(sheet, (0, top))
        top += sheet.height
    return picture


@cli.keeps("--out is as it was")
def save_preview(config: PreviewConfig) -> None:
    """Draw the first batch of a run with this seed, and what it is made of.

    Raises:
        UserError: a field is out of range, or a set is not as it was built.
    """
    if config.images < 1:
        raise UserError(f"images is {config.images}, expected at least 1")
    if config.seed < 0:
        raise UserError(f"seed is {config.seed}, expected at least 0")
    if config.out.suffix.lower() != ".png":
        raise UserError(f"out is {config.out}, expected the name of a .png")
    sources = parse_negatives(config.negatives)
    in_dist = ShardSet.open(config.shards)
    aux = ShardSet.open(config.aux) if config.aux else None

    def first_batch(views: ViewSpec, negatives: str) -> Batch:
        order = StreamOrder(global_batch=config.images, seed=config.seed)
        reads = aux if negatives == config.negatives else None
        cpu = torch.device("cpu")
        return next(TrainLoader(in_dist, reads, views, negatives, order, cpu, config.loader))

    batch = first_batch(config.views, config.negatives)
    source = in_dist.read(batch.in_dist_ids.numpy())
    shown: list[Column] = [("source", _enlarge(source, config.views.global_px))]
    alone = shown + [
        (name, _levels(first_batch(views, "none").pos_global)[1])
        for name, views in augmentations(config.views, in_dist.manifest.channels).items()
    ]
    shifted = list(shown)
    for name in shift_names():
        try:
            shift_named(name).draw(np.random.default_rng(0), 1, config.views.global_px)
        except UserError:  # a view of this side cannot be cut so
            continue
        views = first_batch(whole_image(config.views), f"{name}-in").neg_global
        shifted.append((name, _levels(views)[0]))
    sheets = {
        f"views of a step, negatives {config.negatives}": view_columns(source, batch, sources),
        "each augmentation by itself": alone,
        "each transformation of the negatives by itself": shifted,
    }
    zoom = max(1, SHOWN_PX // config.views.global_px)
    picture = _stack([_sheet(title, columns, zoom) for title, columns in sheets.items()])
    config.out.parent.mkdir(parents=True, exist_ok=True)
    png = io.BytesIO()
    picture.save(png, "PNG")
    replace_file(config.out, [png.getvalue()])
    print(f"{config.out}: {config.images} images, their views, augmentations and negatives")


def main(argv: Sequence[str] | None = None) -> None:
    """Draw what the command names."""
    save_preview(cli.parse(PreviewConfig, argv, description=__doc__))


if __name__ == "__main__":
    cli.run(main)
