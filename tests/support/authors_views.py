"""Negative views as the authors' code makes them, written from its description.

The order of the operations is: crop and resize, rotate, mirror, jitter, gray, blur, solarize. The
normalisation and the permutations, which follow in that code, are left out here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms
from torchvision.transforms import functional as tv

from dali_pipes.view_params import ViewParams


@dataclass(frozen=True)
class PublicTransform:
    """The parameters of one view of one image."""

    box: tuple[int, int, int, int]
    """Top, left, height and width of the crop, in pixels."""
    angle_deg: float
    flip: bool
    jitter: tuple[tuple[str, float], ...]
    """Names and values of the operations, in their order."""
    gray: bool
    radius: float
    """Standard deviation of the blur in pixels; 0 = no blur."""
    solarize: bool

    @classmethod
    def of(cls, params: ViewParams, angle_deg: float) -> PublicTransform:
        """Return our parameters as theirs: we mirror first, so theirs turns the other way."""
        names = ("brightness", "contrast", "saturation", "hue")
        factors = [float(getattr(params, name)) for name in names[:3]]
        values = [*factors, float(params.hue_deg) / 360]
        return cls(
            box=(*params.crop_start.tolist(), *params.crop_shape.tolist()),
            angle_deg=-angle_deg if params.flip else angle_deg,
            flip=bool(params.flip),
            jitter=tuple((names[number], values[number]) for number in params.jitter_order),
            gray=bool(params.gray),
            radius=float(params.blur_sigma_px),
            solarize=bool(params.solarize),
        )


def public_negative(image: np.ndarray, of: PublicTransform, side_px: int) -> np.ndarray:
    """Make one view: uint8 [H, W, 3] -> uint8 [side, side, 3]."""
    change = {
        "brightness": tv.adjust_brightness,
        "contrast": tv.adjust_contrast,
        "saturation": tv.adjust_saturation,
        "hue": tv.adjust_hue,
    }
    size, bicubic = [side_px, side_px], transforms.InterpolationMode.BICUBIC
    view = tv.resized_crop(Image.fromarray(image), *of.box, size, bicubic)
    view = tv.rotate(view, of.angle_deg)  # nearest, filled with 0
    if of.flip:
        view = tv.hflip(view)
    for name, value in of.jitter:
        view = change[name](view, value)
    if of.gray:
        view = tv.to_grayscale(view, 3)
    if of.radius:
        view = view.filter(ImageFilter.GaussianBlur(of.radius))
    if of.solarize:
        view = ImageOps.solarize(view)
    return np.asarray(view)


def random_negatives(images: np.ndarray, side_px: int, seed: int) -> np.ndarray:
    """Make a local view of each image by torchvision's random transforms, in the authors' order."""
    rng = np.random.default_rng(seed)
    chain = transforms.Compose(
        [
            transforms.RandomResizedCrop(
                side_px, scale=(0.15, 0.4), interpolation=transforms.InterpolationMode.BICUBIC
            ),
            transforms.RandomRotation((0, 360)),
            transforms.RandomHorizontalFlip(0.5),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            transforms.RandomGrayscale(0.2),
        ]
    )
    views = []
    for image in images:
        view = chain(Image.fromarray(image))
        if rng.random() <= 0.5:
            radius = rng.uniform(0.1 * 256 / 224, 2 * 256 / 224)
            view = view.filter(ImageFilter.GaussianBlur(radius))
        views.append(np.asarray(view))
    return np.stack(views)
