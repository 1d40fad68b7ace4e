"""The cases of the comparison: each operation alone, whole views, and the shifts.

To compare another operation or combination of operations, add an entry to `ALONE` or `VIEWS`.

Legend: B images, C channels (3, or 1 for gray images), s the side of a view in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from dali_pipes.batch import ViewSpec
from dali_pipes.parity import reference
from dali_pipes.parity.config import ParityConfig
from dali_pipes.parity.differences import (
    BLUR,
    BLUR_MEAN,
    DALI_RESIZE,
    EXACT,
    OPERATION,
    STATED,
    Limit,
    Row,
    difference,
)
from dali_pipes.parity.engines import EARLY, Engine
from dali_pipes.parity.photographs import photographs
from dali_pipes.parity.shifters import Shifter
from dali_pipes.shifts.shift import Params
from dali_pipes.shifts.table import SHIFTS, shift_named
from dali_pipes.view_params import ViewKind, ViewParams, draw_view_params

ALONE = ("flip", "brightness", "contrast", "saturation", "hue", "gray", "solarize")
"""The operations that are compared alone, on whole images that are not resized."""

PARTS: Mapping[str, tuple[str, ...]] = {
    "crop": ("crop_start", "crop_shape"),
    "hue": ("hue_deg",),
    "blur": ("blur_sigma_px",),
    "jitter": ("brightness", "contrast", "saturation", "jitter_order"),
}
"""Operation -> the fields of `ViewParams` that belong to the operation. An operation that is not
listed has one field, with the same name."""

VIEWS: Mapping[str, tuple[str, ...]] = {
    "crop, resize": ("crop",),
    "crop, resize, blur": ("crop", "blur"),
    "view, no hue": ("crop", "flip", "jitter", "gray", "blur"),
    "view": ("crop", "flip", "jitter", "gray", "blur", "hue"),
    "view, no blur": ("crop", "flip", "jitter", "gray", "hue"),
    "view, turned early": ("crop", "flip", "jitter", "gray", "blur"),
}
"""Title -> the combination of operations that is compared. Solarization is not part of any
combination, because it can hide differences: if the level is 128 in one view and 127 in the other,
solarization turns 128 into 127 and keeps 127, so both become equal. It is compared alone, where the
engines start from equal levels."""

SIDES: Mapping[ViewKind, int] = {"global-1": 256, "local": 128}
"""The kinds of views that are compared, and the side of each kind in pixels."""


def neutral(count: int, side_px: int) -> ViewParams:
    """Return parameters with which a view is the whole image, without any change.

    Args:
        count: The number of views; the result has the shape [count].
        side_px: The side of the images and of the views, in pixels.
    """
    ones, zeros = np.ones(count, np.float32), np.zeros(count, np.float32)
    return ViewParams(
        crop_start=np.zeros((count, 2), np.int32),
        crop_shape=np.full((count, 2), side_px, np.int32),
        flip=np.zeros(count, np.int32),
        brightness=ones,
        contrast=ones,
        saturation=ones,
        hue_deg=zeros,
        jitter_order=np.tile(np.arange(4, dtype=np.uint8), (count, 1)),
        gray=np.zeros(count, bool),
        blur_sigma_px=zeros,
        solarize=np.zeros(count, bool),
    )


def only(params: ViewParams, parts: Sequence[str], side_px: int) -> ViewParams:
    """Return a copy of parameters in which only some operations change anything.

    Args:
        params: The parameters.
        parts: The operations that keep their parameters; all other operations become neutral.
        side_px: The side of the input images, in pixels.
    """
    names = [name for part in parts for name in PARTS.get(part, (part,))]
    kept = {name: getattr(params, name) for name in names}
    return replace(neutral(len(params.flip), side_px), **kept)


def compare_views(
    engines: Sequence[Engine], config: ParityConfig, images_px: Sequence[int] = (32, 256)
) -> Iterator[Row]:
    """Compare the views of the engines with the reference.

    Args:
        engines: The engines.
        config: The number of images, and the seed.
        images_px: The sides of the input images, in pixels.

    Yields:
        One row per engine, kind of input images, and operation or combination of operations.
    """
    rng = np.random.default_rng(config.seed)
    always = replace(ViewSpec(), flip_p=1.0, jitter_p=1.0, gray_p=1.0, solarize_p=1.0)
    for image_px in images_px:
        some = [engine for engine in engines if image_px in engine.images_px]
        hw, shape = (image_px, image_px), (config.images,)
        for channels, colours in ((3, "RGB"), (1, "gray")):
            images = photographs(config.images, image_px, channels)
            label = f"{image_px} px {colours}"
            params = draw_view_params(rng, always, "global-2", shape, hw)
            for operation in ALONE:
                if channels == 1 and operation in ("saturation", "hue", "gray"):
                    continue
                case = only(params, [operation], image_px)
                yield from _compare(operation, label, some, images, case, image_px)
            for kind, side_px in SIDES.items():
                params = draw_view_params(rng, ViewSpec(), kind, shape, hw)
                for operation, parts in VIEWS.items():
                    if channels == 1 and "hue" in parts:
                        continue
                    case = only(params, parts, image_px)
                    early = None
                    if operation.endswith("early"):
                        early = shift_named(EARLY).draw(
                            np.random.default_rng(config.seed), config.images, side_px
                        )
                    yield from _compare(
                        operation, f"{label} -> {side_px}", some, images, case, side_px, early
                    )


def _compare(
    operation: str,
    label: str,
    engines: Sequence[Engine],
    images: np.ndarray,
    params: ViewParams,
    side_px: int,
    early: Params | None = None,
) -> Iterator[Row]:
    exact = reference.reference_views(images, params, side_px, "exact", early)
    pillow = reference.reference_views(images, params, side_px, "pillow", early)
    for engine in engines:
        views = engine.render(images, params, side_px, early)
        limit = _limit(operation, engine, hue=bool(params.hue_deg.any()))
        from_pillow, *_ = difference(views, pillow)
        apart = difference(views, exact)
        yield Row(operation, label, engine.name, *apart, from_pillow, limit)


def _limit(operation: str, engine: Engine, *, hue: bool) -> Limit:
    if hue and engine.view_with_hue == STATED:
        return STATED
    if operation.startswith("view"):
        limit = engine.view_with_hue if hue else engine.view
        # A view with all operations may differ at least as much as the blur alone.
        return (
            replace(limit, mean=max(limit.mean or 0, BLUR_MEAN)) if operation == "view" else limit
        )
    if operation == "crop, resize" and engine.name.startswith("dali"):
        return DALI_RESIZE
    return BLUR if operation.endswith("blur") else OPERATION


def compare_shifts(shifters: Mapping[str, Shifter], config: ParityConfig) -> Iterator[Row]:
    """Compare both forms of the shifting transformations with the reference, on finished views.

    Args:
        shifters: Name of a form and device -> function that shifts views.
        config: The number of images, and the seed.

    Yields:
        One row per transformation, colours of the views, and form.
    """
    rng = np.random.default_rng(config.seed)
    side_px = 128
    for name in (*SHIFTS, "perm-4", "perm-16"):
        params = shift_named(name).draw(rng, config.images, side_px)
        for channels, colours in ((3, "RGB"), (1, "gray")):
            views = photographs(config.images, side_px, channels)
            expected = np.stack(
                [
                    reference.shifted(view, {key: value[i] for key, value in params.items()})
                    for i, view in enumerate(views)
                ]
            )
            # In a rotated view, a few pixels differ: where two pixels are equally near, the last
            # bit of a float decides which pixel is taken.
            limit = {
                "rot-any": Limit(mean=0.5),
                "rot-any-early": Limit(mean=0.5),
                "blur": BLUR,
            }.get(name, EXACT)
            for engine, shift in shifters.items():
                apart = difference(shift(views, name, params), expected)
                yield Row(f"shift {name}", f"{side_px} px {colours}", engine, *apart, None, limit)
