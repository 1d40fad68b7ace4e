"""`python -m dali_pipes.preview SHARDS --out views.png`: a contact sheet of views and negatives.

What is drawn comes from the loader of the training, denormalised: what the networks would see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image, ImageDraw, ImageFont

from dali_pipes.batch import RGB_MEAN, RGB_STD, Batch, ViewSpec
from dali_pipes.inputs import StreamOrder
from dali_pipes.loader import TrainLoader
from dali_pipes.negatives import STRATEGIES, StrategyName
from shards import cli
from shards.cli import UserError
from shards.reader import ShardSet

MARGIN_PX, TITLE_PX = 6, 22


@dataclass(frozen=True)
class PreviewConfig:
    """What to draw."""

    shards: tyro.conf.Positional[Path]
    """Folder of in-distribution shards."""
    out: Path
    """The PNG to write."""
    aux: Path | None = None
    """Folder of auxiliary shards, for negatives made of them."""
    negatives: StrategyName = "rot-in"
    """none | aux | rot | rot-in | combined."""
    images: int = 6
    """Rows of the sheet, one image each."""
    seed: int = 0
    """Of the choice of images and of every draw."""
    views: ViewSpec = field(default_factory=ViewSpec)


def contact_sheet(source: np.ndarray, batch: Batch, strategy: StrategyName) -> Image.Image:
    """One row for each image: the source (uint8 [B, H, W, C]), then its views of `batch`."""
    columns = [("source", _enlarge(source, batch.global_views.shape[-1]))]
    columns += [(f"global {i + 1}", view) for i, view in enumerate(_levels(batch.pos_global))]
    columns += [(f"local {i + 1}", view) for i, view in enumerate(_levels(batch.pos_local))]
    sources = STRATEGIES[strategy]
    neg_local = batch.neg_local.unflatten(0, (len(sources), -1)) if sources else []
    for number, negative in enumerate(sources):
        name = f"{negative.stream} {negative.shift}"
        columns.append((name, _levels(batch.neg_global)[number]))
        columns += [("- local", view) for view in _levels(neg_local[number])]
    return _draw(columns)


def _enlarge(images: np.ndarray, side_px: int) -> list[Image.Image]:
    size = (side_px, side_px)
    return [
        Image.fromarray(np.squeeze(image)).resize(size, Image.Resampling.NEAREST)
        for image in images
    ]


def _levels(views: torch.Tensor) -> list[list[Image.Image]]:
    """Normalised [V, B, 3, s, s] -> V columns of B pictures."""
    pixels = views.cpu().movedim(2, -1).numpy() * np.array(RGB_STD) + np.array(RGB_MEAN)
    levels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return [[Image.fromarray(image) for image in view] for view in levels]


def _draw(columns: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    row_px = max(picture.height for _, pictures in columns for picture in pictures) + MARGIN_PX
    font = ImageFont.load_default(12)
    widths = [
        max(pictures[0].width, int(font.getlength(title))) + MARGIN_PX
        for title, pictures in columns
    ]
    rows = len(columns[0][1])
    size = (sum(widths) + MARGIN_PX, TITLE_PX + rows * row_px + MARGIN_PX)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    left = MARGIN_PX
    for (title, pictures), width in zip(columns, widths, strict=True):
        draw.text((left, 5), title, fill="black", font=font)
        for row, picture in enumerate(pictures):
            sheet.paste(picture, (left, TITLE_PX + row * row_px))
        left += width
    return sheet


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the first batch of a run with this seed."""
    config = cli.parse(PreviewConfig, argv, description=__doc__)
    if config.images < 1:
        raise UserError(f"images is {config.images}, expected at least 1")
    if config.seed < 0:
        raise UserError(f"seed is {config.seed}, expected at least 0")
    if config.out.suffix.lower() != ".png":
        raise UserError(f"out is {config.out}, expected the name of a .png")
    in_dist = ShardSet.open(config.shards)
    loader = TrainLoader(
        in_dist,
        ShardSet.open(config.aux) if config.aux else None,
        config.views,
        config.negatives,
        StreamOrder(global_batch=config.images, seed=config.seed),
        torch.device("cpu"),
        num_threads=2,
    )
    batch = next(loader)
    sheet = contact_sheet(in_dist.read(batch.in_dist_ids.numpy()), batch, config.negatives)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(config.out)
    print(f"{config.out}: the views of {config.images} images")


if __name__ == "__main__":
    cli.run(main)
