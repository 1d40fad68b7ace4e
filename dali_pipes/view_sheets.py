"""Pictures of views: contact sheets with one row per image and one column per view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from dali_pipes.batch import Batch
from dali_pipes.negatives import NegativeBranch
from dali_pipes.normalised import levels_of
from shards.pixels.sheet import draw_sheet, enlarged

Column = tuple[str, Sequence[Image.Image]]
"""A column of a sheet: its title, and one picture per image."""


def view_columns(
    images: np.ndarray, batch: Batch, branches: Sequence[NegativeBranch]
) -> list[Column]:
    """Return the columns of a sheet that shows a batch: the input images, then all views.

    Args:
        images: The input images, uint8 [B, H, W, C].
        batch: The views of the images.
        branches: The negative branches, which give the titles of the negative views.
    """
    columns = [input_column(images, batch.global_views.shape[-1])]
    columns += [(f"global {i + 1}", view) for i, view in enumerate(view_pictures(batch.pos_global))]
    columns += [(f"local {i + 1}", view) for i, view in enumerate(view_pictures(batch.pos_local))]
    neg_local = batch.neg_local.unflatten(0, (len(branches), -1)) if branches else []
    for number, negative in enumerate(branches):
        columns.append((negative.name, view_pictures(batch.neg_global)[number]))
        columns += [("- local", view) for view in view_pictures(neg_local[number])]
    return columns


def input_column(images: np.ndarray, side_px: int) -> Column:
    """Return a column with input images, uint8 [B, H, W, C], resized to squares of `side_px`."""
    size = (side_px, side_px)
    return "input image", [
        Image.fromarray(np.squeeze(image)).resize(size, Image.Resampling.NEAREST)
        for image in images
    ]


def view_pictures(views: torch.Tensor) -> list[list[Image.Image]]:
    """Convert normalised views, [V, B, 3, s, s], to pictures.

    Returns:
        V lists, each with B pictures.
    """
    levels = np.clip(np.rint(levels_of(views)), 0, 255).astype(np.uint8)
    return [[Image.fromarray(image) for image in view] for view in levels]


def draw_columns(title: str, columns: Sequence[Column], zoom: int) -> Image.Image:
    """Draw a sheet from its columns. Each pixel of a picture becomes a square of side `zoom`."""
    names, pictures = zip(*columns, strict=True)
    rows = [[enlarged(one, zoom) for one in row] for row in zip(*pictures, strict=True)]
    return draw_sheet(rows, title=title, column_titles=names)


def stack(sheets: Sequence[Image.Image]) -> Image.Image:
    """Join sheets, one below the other, into one picture."""
    size = max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)
    picture = Image.new("RGB", size, "white")
    top = 0
    for sheet in sheets:
        picture.paste(sheet, (0, top))
        top += sheet.height
    return picture
