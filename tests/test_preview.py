"""The contact sheet shows the images that it says it shows."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dali_pipes.preview import HEAD_PX, MARGIN_PX, TITLE_PX, main
from shards.cli import UserError


def test_a_sheet_has_a_row_for_each_image_and_a_column_for_each_view(rgb_dir, rgb_set, tmp_path):
    out = tmp_path / "new" / "views.png"
    options = "--views.global-px 32 --views.local-px 16 --views.local-views 2 --images 4"
    main([str(rgb_dir), "--out", str(out), *options.split()])
    sheet = np.asarray(Image.open(out))
    assert sheet.shape[0] == 3 * (HEAD_PX + TITLE_PX + 4 * (32 + MARGIN_PX) + MARGIN_PX)
    images = rgb_set.read(np.arange(120))
    for row in range(4):
        top = HEAD_PX + TITLE_PX + row * (32 + MARGIN_PX)
        shown = sheet[top : top + 32, MARGIN_PX : MARGIN_PX + 32]
        assert (images == shown).all((1, 2, 3)).sum() == 1
    # source, two global, two local, a negative global and two negative locals
    first_row = sheet[HEAD_PX + TITLE_PX + 8]
    filled = (first_row != 255).any(-1)
    columns = np.count_nonzero(np.diff(filled.astype(int)) == 1)
    assert columns >= 8


def test_no_images_are_refused(rgb_dir, tmp_path) -> None:
    with pytest.raises(UserError, match="images is 0"):
        main([str(rgb_dir), "--out", str(tmp_path / "x.png"), "--images", "0"])


@pytest.mark.parametrize(("side_px", "missing"), [(32, 0), (30, 1)])
def test_each_transformation_and_augmentation_has_its_column(
    rgb_dir, tmp_path, side_px, missing
) -> None:
    """Those that a side cannot be cut into are left out (perm-16 of 30 px)."""
    out = tmp_path / "views.png"
    size = f"--views.global-px {side_px} --views.local-px 16 --views.local-views 1"
    main([str(rgb_dir), "--out", str(out), "--images", "3", *size.split()])
    sheet = np.asarray(Image.open(out))
    height = sheet.shape[0] // 3
    for number, columns in ((1, 1 + 10), (2, 1 + 8 - missing)):
        line = sheet[number * height + HEAD_PX + TITLE_PX + side_px // 2]
        filled = (line != 255).any(-1)
        assert np.count_nonzero(np.diff(filled.astype(int)) == 1) >= columns
