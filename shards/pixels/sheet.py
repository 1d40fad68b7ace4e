"""Drawing of a contact sheet: pictures in rows and columns, with titles."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

MARGIN_PX = 6
TITLE_PX, HEAD_PX = 22, 30
"""The heights in pixels of the line of column titles and of the line of the sheet's title."""
FONT_PX, HEAD_FONT_PX = 12, 16


def draw_sheet(
    rows: Sequence[Sequence[Image.Image]],
    *,
    title: str = "",
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
) -> Image.Image:
    """Draw pictures in rows and columns on a white sheet, and return the sheet.

    All rows are as high as the highest picture. Each column is as wide as its widest picture or
    title.

    Args:
        rows: The pictures of each row. Rows may have different numbers of pictures.
        title: The title of the sheet, drawn above everything else. No title if empty.
        column_titles: The titles above the columns. No titles if empty.
        row_titles: The titles to the left of the rows. No titles if empty.
    """
    font = ImageFont.load_default(FONT_PX)
    column_titles = column_titles or [""] * max(map(len, rows))
    row_titles = row_titles or [""] * len(rows)
    heights = [picture.height for row in rows for picture in row]
    row_px = max(heights) + MARGIN_PX
    widths = [_width(font, name) for name in column_titles]
    for row in rows:
        widths[: len(row)] = [max(w, p.width) for w, p in zip(widths, row, strict=False)]
    left_px = MARGIN_PX + max(
        (_width(font, name) + MARGIN_PX for name in row_titles if name), default=0
    )
    head_px = HEAD_PX if title else 0
    top_px = (head_px + TITLE_PX) if any(column_titles) else head_px + MARGIN_PX
    width_px = left_px + sum(widths) + MARGIN_PX * len(widths)
    sheet = Image.new("RGB", (width_px, top_px + len(rows) * row_px + MARGIN_PX), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN_PX, 8), title, fill="black", font=ImageFont.load_default(HEAD_FONT_PX))
    lefts = [left_px + sum(widths[:i]) + MARGIN_PX * i for i in range(len(widths))]
    for left, name in zip(lefts, column_titles, strict=True):
        draw.text((left, head_px + 5), name, fill="black", font=font)
    for number, (name, row) in enumerate(zip(row_titles, rows, strict=True)):
        top = top_px + number * row_px
        middle = top + (row_px - MARGIN_PX) // 2
        draw.text((MARGIN_PX, middle), name, fill="black", font=font, anchor="lm")
        for left, picture in zip(lefts, row, strict=False):
            sheet.paste(picture, (left, top))
    return sheet


def enlarged(picture: Image.Image, factor: int) -> Image.Image:
    """Return the picture enlarged: each pixel becomes a square of `factor` x `factor` pixels."""
    size = picture.width * factor, picture.height * factor
    return picture.resize(size, Image.Resampling.NEAREST)


def _width(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> int:
    return math.ceil(font.getlength(text))
