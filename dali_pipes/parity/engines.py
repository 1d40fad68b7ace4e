"""The view engines as functions of images and parameters.

To compare another engine, add an `Engine` to the function `engines`.

Legend: B images, C channels (3, or 1 for gray images), s the side of a view in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch

from dali_pipes.batch import ViewSpec
from dali_pipes.dali.colour import colour_normalized
from dali_pipes.negatives import parse_negatives
from dali_pipes.normalised import levels_of
from dali_pipes.parity.differences import DALI_VIEW, STATED, Limit
from dali_pipes.parity.run_graph import run_graph, torch_device
from dali_pipes.product.views import ProductViews
from dali_pipes.shifts.shift import Params
from dali_pipes.shifts.table import shift_named
from dali_pipes.step_plan import GroupParams, ViewGroup
from dali_pipes.view_params import ViewParams

Render = Callable[[np.ndarray, ViewParams, int, Params | None], np.ndarray]
"""A function that makes one view of each image: (images uint8 [B, H, W, C], view parameters [B], s,
early) -> levels of the views [B, s, s, C], uint8 or float. `early` holds the parameters [B] of the
shift `EARLY`, or is None if the views are not shifted."""

EARLY = "rot-any-early"
"""The name of the shift that is compared as an early shift, which acts before the colour jitter."""


@dataclass(frozen=True)
class Engine:
    """A view engine with one choice of its options, and the limits for its differences."""

    name: str
    render: Render
    view: Limit
    """The limit for whole views whose hue is not turned."""
    view_with_hue: Limit
    """The limit for whole views whose hue is turned. It is `STATED` if the engine does not turn the
    hue in HSV, as torchvision does."""
    images_px: tuple[int, ...]
    """The sides of the input images with which the engine is compared, in pixels."""


def engines(devices: Sequence[str]) -> list[Engine]:
    """Return all engines, each on all devices in `devices` ("cpu" or "gpu")."""
    found = []
    for device in devices:
        for space in ("view", "source"):
            render = partial(render_by_dali, device=device, in_source_space=space == "source")
            name = f"dali {device}, {space}"
            found.append(Engine(name, render, DALI_VIEW, STATED, images_px=(32, 256)))
        for dtype, mean in ((torch.float32, 0.5), (torch.bfloat16, 1.0)):
            view = Limit(mean=mean, view=3.0)
            render = partial(render_by_product, device=torch_device(device), dtype=dtype)
            name = f"product {device}, {str(dtype).removeprefix('torch.')}"
            found.append(Engine(name, render, view, view, images_px=(32,)))
    return found


def render_by_dali(
    images: np.ndarray,
    params: ViewParams,
    side_px: int,
    early: Params | None = None,
    *,
    device: str,
    in_source_space: bool,
) -> np.ndarray:
    """Make views with the engine `dali`; arguments and result are as in `Render`.

    Args:
        images: As in `Render`.
        params: As in `Render`.
        side_px: The side s of the views, in pixels.
        early: As in `Render`.
        device: The device on which the graph works, "cpu" or "gpu".
        in_source_space: True if jitter and blur act on the crop, before it is resized.
    """
    from dali_pipes.dali import augment
    from dali_pipes.dali.params import graph_params

    channels = images.shape[-1]
    in_source_space = in_source_space and early is None
    # A view of the kind "global-2" can have every operation.
    arrays = graph_params(params, "global-2", side_px, channels, in_source_space=in_source_space)

    def view_of(image, nodes):
        def turned(picture):
            return shift_named(EARLY).graph(picture, nodes, side_px)

        first = turned if early is not None else None
        return augment.view_of(image, nodes, in_source_space=in_source_space, early=first)

    views = run_graph(images, view_of, {**arrays, **(early or {})}, device)
    if in_source_space:
        return views
    out = torch.empty(len(views), 3, side_px, side_px, device=torch_device(device))
    colour_normalized(torch.from_numpy(views).to(out.device), params, out)
    return levels_of(out)[..., :channels]


def render_by_product(
    images: np.ndarray,
    params: ViewParams,
    side_px: int,
    early: Params | None = None,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> np.ndarray:
    """Make views with the engine `product`; arguments and result are as in `Render`."""
    out = torch.empty(1, len(images), 3, side_px, side_px, dtype=dtype, device=device)
    group = GroupParams(
        ViewGroup("local", 1, side_px),
        params[(None, ...)],
        from_aux=np.zeros(len(images), bool),
        shift={f"0.{name}": values[None] for name, values in (early or {}).items()},
        negative=None if early is None else parse_negatives(EARLY)[0],
    )
    maker = product_views(images.shape[1], side_px, dtype, device)
    maker.make(torch.from_numpy(images).to(device), [group], out)
    return levels_of(out[0])[..., : images.shape[-1]]


@cache
def product_views(
    image_px: int, side_px: int, dtype: torch.dtype, device: torch.device
) -> ProductViews:
    """Return the maker of views of side `side_px`, from images of side `image_px`.

    The maker is cached, because computing its tables takes long.
    """
    spec = ViewSpec()
    scale = spec.local_scale[0], spec.global_scale[1]
    return ProductViews(spec, side_px, scale, (image_px, image_px), dtype, device)
