"""Runs graph functions on given images and parameters, and the same chain through Pillow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from nvidia.dali import Pipeline, fn
from nvidia.dali.pipeline import pipeline_def
from PIL import Image, ImageFilter


def run_graph(images: np.ndarray, function: Callable, params: dict[str, np.ndarray]) -> np.ndarray:
    """`function(image node, parameter nodes)` on uint8 [B, H, W, C], on DALI's CPU backend."""

    @pipeline_def(enable_conditionals=True, batch_size=len(images), num_threads=2, device_id=None)
    def graph():
        image, *nodes = fn.external_source(
            source=lambda: [images, *params.values()],
            num_outputs=1 + len(params),
            batch=True,
            layout=["HWC", *[""] * len(params)],
        )
        return function(image, dict(zip(params, nodes)))  # noqa: B905 (rewritten by DALI)

    pipeline: Pipeline = graph()
    pipeline.build()
    (output,) = pipeline.run()
    return np.asarray(output.as_array())


def pillow_view(image: np.ndarray, draw, row: int, side_px: int) -> np.ndarray:
    """One view by Pillow with the drawn parameters (hue must be 0): uint8 HWC."""
    picture = Image.fromarray(np.squeeze(image))
    top, left = draw.crop_start[row].tolist()
    height, width = draw.crop_shape[row].tolist()
    picture = picture.crop((left, top, left + width, top + height))
    picture = picture.resize((side_px, side_px), Image.Resampling.BICUBIC)
    picture = Image.fromarray(jittered(np.asarray(picture), draw, row))
    if draw.blur_sigma_px[row] > 0:
        picture = picture.filter(ImageFilter.GaussianBlur(float(draw.blur_sigma_px[row])))
    if draw.solarize[row]:
        picture = picture.point([v if v < 128 else 255 - v for v in range(256)] * len(picture.mode))
    if draw.flip[row]:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(picture).reshape(side_px, side_px, -1)


LUMA = np.array([0.299, 0.587, 0.114])


def jittered(levels: np.ndarray, draw, row: int) -> np.ndarray:
    """Brightness, contrast and saturation by their definition, rounded once (Pillow truncates)."""
    result = np.clip(levels * float(draw.brightness[row]), 0, 255)
    middle = (result @ LUMA if result.ndim == 3 else result).mean()
    result = np.clip((result - middle) * float(draw.contrast[row]) + middle, 0, 255)
    if result.ndim == 3:
        gray = (result @ LUMA)[..., None]
        result = np.clip((result - gray) * float(draw.saturation[row]) + gray, 0, 255)
    return np.rint(result).astype(np.uint8)
