"""`python -m dali_pipes.parity`: every view engine against the Pillow reference, number by number.

Real photographs go through each operation alone, through whole views and through the shifting
transformations, in every engine and with the same drawn parameters in `reference.py`. The
differences are in levels of 0..255. A second table compares the laws of the draws with
torchvision's. The last line is one JSON object; exit status 1 means that a row failed.

To add an engine: one `Engine` in `engines`.

Legend: B images, C channels (3, or 1 of gray ones), s side of a view in pixels.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, partial

import numpy as np
import torch
from PIL import Image
from rich.table import Table

from dali_pipes.batch import ViewSpec
from dali_pipes.dali.colour import colour_normalized
from dali_pipes.negatives import parse_negatives
from dali_pipes.normalised import levels_of
from dali_pipes.parity import reference
from dali_pipes.parity.draws import Law, compare_draws
from dali_pipes.product.views import ProductViews
from dali_pipes.shifts.shift import Params
from dali_pipes.shifts.table import SHIFTS, shift_named
from dali_pipes.step_plan import GroupDraws, ViewGroup
from dali_pipes.view_params import ViewDraw, ViewKind, draw_views
from shards.errors import UserError
from shards.terminal import cli
from shards.terminal.console import Terminal

Render = Callable[[np.ndarray, ViewDraw, int, Params | None], np.ndarray]
"""(images uint8 [B, H, W, C], draw [B], s, parameters [B] of the turn before the colours or None)
-> levels [B, s, s, C], uint8 or float."""
Shifter = Callable[[np.ndarray, str, Mapping[str, np.ndarray]], np.ndarray]
"""(views uint8 [B, s, s, C], name of the shift, its parameters [B, ...]) -> the same, shifted."""


@dataclass(frozen=True)
class ParityConfig:
    """How much to compare."""

    images: int = 64
    """Pieces of photographs a row, each with its own draw."""
    draws: int = 20_000
    """Draws a law."""
    seed: int = 0
    """Of the draws."""


@dataclass(frozen=True)
class Limit:
    """Largest differences that pass, in levels; None = stated, not judged."""

    mean: float | None = None
    view: float | None = None
    worst: float | None = None

    def __str__(self) -> str:
        """As in the table."""
        limits = (self.mean, self.view, self.worst)
        if limits == (None, None, None):
            return "-"
        return " / ".join("-" if limit is None else f"{limit:g}" for limit in limits)


OPERATION = Limit(mean=0.5, worst=12)
DALI_RESIZE = Limit(mean=0.5, worst=16)
"""It repeats the border's pixel where Pillow leaves it out: up to 14 levels beside a border."""
BLUR_MEAN = 0.6
BLUR = Limit(mean=BLUR_MEAN)
"""Pillow rounds after each of its three boxes, and repeats the border for each."""
DALI_VIEW = Limit(mean=1.0)
"""Its jitter is two affine maps, each clipped at its end, where the reference clips four times."""
FLOAT_NOISE = 1e-3
"""Levels; views that went through the normalisation and back are off by 1e-5."""
EXACT = Limit(mean=0, worst=0)
STATED = Limit()


@dataclass(frozen=True)
class Engine:
    """One way to make views."""

    name: str
    render: Render
    view: Limit
    """Of whole views without a turn of the hue."""
    view_with_hue: Limit
    """Of those with one; `STATED` where it does not turn in HSV, as torchvision's does."""
    sources_px: tuple[int, ...]
    """Sides of the sources that it takes."""


@dataclass(frozen=True)
class Row:
    """One comparison: absolute differences over all views, in levels."""

    operation: str
    sources: str
    engine: str
    mean: float
    view: float
    """The mean of the view that differs most: an error in a rare case drowns in the mean."""
    worst: float
    """Of a single level."""
    mean_pillow: float | None
    """From the reference with Pillow's own enhancers."""
    limit: Limit

    @property
    def passed(self) -> bool:
        """Whether no limit is exceeded."""
        pairs = (
            (self.mean, self.limit.mean),
            (self.view, self.limit.view),
            (self.worst, self.limit.worst),
        )
        return all(limit is None or value <= limit + FLOAT_NOISE for value, limit in pairs)

    @property
    def verdict(self) -> str:
        """As in the table."""
        if self.limit == STATED:
            return "stated"
        return "pass" if self.passed else "FAIL"


# The cases.

ALONE = ("flip", "brightness", "contrast", "saturation", "hue", "gray", "solarize")
"""Operations that are tried alone, on whole images at their own size."""

PARTS: Mapping[str, tuple[str, ...]] = {
    "crop": ("crop_start", "crop_shape"),
    "hue": ("hue_deg",),
    "blur": ("blur_sigma_px",),
    "jitter": ("brightness", "contrast", "saturation", "jitter_order"),
}
"""The fields of `ViewDraw` behind an operation, where they are not one field of its name."""

VIEWS: Mapping[str, tuple[str, ...]] = {
    "crop, resize": ("crop",),
    "crop, resize, blur": ("crop", "blur"),
    "view, no hue": ("crop", "flip", "jitter", "gray", "blur"),
    "view": ("crop", "flip", "jitter", "gray", "blur", "hue"),
    "view, no blur": ("crop", "flip", "jitter", "gray", "hue"),
    "view, turned early": ("crop", "flip", "jitter", "gray", "blur"),
}
"""Solarization is tried alone, on equal levels: it is the same in all engines, and in a whole view
it would hide part of a difference (128 becomes 127, and 127 stays)."""

SIDES: Mapping[ViewKind, int] = {"global-1": 256, "local": 128}

EARLY = "rot-any-early"
"""The shift that comes before the colours."""


def neutral(count: int, side_px: int) -> ViewDraw:
    """Draws [B] that leave whole images of a side as they are."""
    ones, zeros = np.ones(count, np.float32), np.zeros(count, np.float32)
    return ViewDraw(
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


def only(draw: ViewDraw, parts: Sequence[str], side_px: int) -> ViewDraw:
    """The draw with all but the named operations neutral; `side_px` is the source's."""
    names = [name for part in parts for name in PARTS.get(part, (part,))]
    kept = {name: getattr(draw, name) for name in names}
    return replace(neutral(len(draw.flip), side_px), **kept)


def photographs(count: int, side_px: int, channels: int, piece_px: int = 256) -> np.ndarray:
    """Pieces of scikit-learn's two photographs, resized: uint8 [count, side, side, channels]."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(9)
    sources = [Image.fromarray(image) for image in load_sample_images().images]
    pieces = []
    for i in range(count):
        left, top = int(rng.integers(640 - piece_px)), int(rng.integers(427 - piece_px))
        piece = sources[i % 2].crop((left, top, left + piece_px, top + piece_px))
        piece = piece.resize((side_px, side_px), Image.Resampling.BICUBIC)
        pieces.append(np.asarray(piece.convert("L" if channels == 1 else "RGB")))
    return np.stack(pieces).reshape(count, side_px, side_px, channels)


def difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Absolute differences of [B, s, s, C]: their mean, the mean of the worst view, the largest."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    apart = np.abs(ours.astype(np.float32) - theirs)
    views = apart.mean((1, 2, 3))
    return float(views.mean()), float(views.max()), float(apart.max())


def compare_views(
    engines: Sequence[Engine], config: ParityConfig, sources_px: Sequence[int] = (32, 256)
) -> Iterator[Row]:
    """The rows of operations and of whole views."""
    rng = np.random.default_rng(config.seed)
    always = replace(ViewSpec(), flip_p=1.0, jitter_p=1.0, gray_p=1.0, solarize_p=1.0)
    for source_px in sources_px:
        some = [engine for engine in engines if source_px in engine.sources_px]
        hw, shape = (source_px, source_px), (config.images,)
        for channels, colours in ((3, "RGB"), (1, "gray")):
            images = photographs(config.images, source_px, channels)
            sources = f"{source_px} px {colours}"
            draw = draw_views(rng, always, "global-2", shape, hw)
            for operation in ALONE:
                if channels == 1 and operation in ("saturation", "hue", "gray"):
                    continue
                case = only(draw, [operation], source_px)
                yield from _compare(operation, sources, some, images, case, source_px)
            for kind, side_px in SIDES.items():
                draw = draw_views(rng, ViewSpec(), kind, shape, hw)
                for operation, parts in VIEWS.items():
                    if channels == 1 and "hue" in parts:
                        continue
                    case = only(draw, parts, source_px)
                    label = f"{sources} -> {side_px}"
                    early = None
                    if operation.endswith("early"):
                        early = shift_named(EARLY).draw(
                            np.random.default_rng(config.seed), config.images, side_px
                        )
                    yield from _compare(operation, label, some, images, case, side_px, early)


def _compare(
    operation: str,
    sources: str,
    engines: Sequence[Engine],
    images: np.ndarray,
    draw: ViewDraw,
    side_px: int,
    early: Params | None = None,
) -> Iterator[Row]:
    exact = reference.reference_views(images, draw, side_px, "exact", early)
    pillow = reference.reference_views(images, draw, side_px, "pillow", early)
    for engine in engines:
        views = engine.render(images, draw, side_px, early)
        limit = _limit(operation, engine, hue=bool(draw.hue_deg.any()))
        from_pillow, *_ = difference(views, pillow)
        apart = difference(views, exact)
        yield Row(operation, sources, engine.name, *apart, from_pillow, limit)


def _limit(operation: str, engine: Engine, *, hue: bool) -> Limit:
    if hue and engine.view_with_hue == STATED:
        return STATED
    if operation.startswith("view"):
        limit = engine.view_with_hue if hue else engine.view
        # Everything together may be off by what the blur may.
        return (
            replace(limit, mean=max(limit.mean or 0, BLUR_MEAN)) if operation == "view" else limit
        )
    if operation == "crop, resize" and engine.name.startswith("dali"):
        return DALI_RESIZE
    return BLUR if operation.endswith("blur") else OPERATION


def compare_shifts(shifters: Mapping[str, Shifter], config: ParityConfig) -> Iterator[Row]:
    """The rows of the shifting transformations, on finished views."""
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
            # Which of two pixels is nearest is a matter of the last bit where both are: a few
            # pixels of a turned view are their neighbours.
            limit = {
                "rot-any": Limit(mean=0.5),
                "rot-any-early": Limit(mean=0.5),
                "blur": BLUR,
            }.get(name, EXACT)
            for engine, shift in shifters.items():
                apart = difference(shift(views, name, params), expected)
                yield Row(f"shift {name}", f"{side_px} px {colours}", engine, *apart, None, limit)


# The engines.


def engines(devices: Sequence[str]) -> list[Engine]:
    """All that can run on these devices."""
    found = []
    for device in devices:
        for space in ("view", "source"):
            render = partial(render_by_dali, device=device, in_source_space=space == "source")
            name = f"dali {device}, {space}"
            found.append(Engine(name, render, DALI_VIEW, STATED, sources_px=(32, 256)))
        for dtype, mean in ((torch.float32, 0.5), (torch.bfloat16, 1.0)):
            view = Limit(mean=mean, view=3.0)
            render = partial(render_by_product, device=torch_device(device), dtype=dtype)
            name = f"product {device}, {str(dtype).removeprefix('torch.')}"
            found.append(Engine(name, render, view, view, sources_px=(32,)))
    return found


def shifters(devices: Sequence[str]) -> dict[str, Shifter]:
    """Both forms of the shifts, on these devices."""
    found: dict[str, Shifter] = {}
    for device in devices:
        found[f"dali {device}"] = partial(shift_by_dali, device=device)
        found[f"torch {device}"] = partial(shift_by_torch, device=torch_device(device))
    return found


def torch_device(device: str) -> torch.device:
    """Torch's name of DALI's device."""
    return torch.device("cuda" if device == "gpu" else "cpu")


def render_by_dali(
    images: np.ndarray,
    draw: ViewDraw,
    side_px: int,
    early: Params | None = None,
    *,
    device: str,
    in_source_space: bool,
) -> np.ndarray:
    """A `Render` through the graph of `dali_pipes.dali.augment`, in view space then `colour`."""
    from dali_pipes.dali import augment
    from dali_pipes.dali.params import graph_params

    channels = images.shape[-1]
    in_source_space = in_source_space and early is None
    # The kind of view that has every operation.
    params = graph_params(draw, "global-2", side_px, channels, in_source_space=in_source_space)

    def view_of(image, nodes):
        def turned(picture):
            return shift_named(EARLY).graph(picture, nodes, side_px)

        first = turned if early is not None else None
        return augment.view_of(image, nodes, in_source_space=in_source_space, early=first)

    views = run_graph(images, view_of, {**params, **(early or {})}, device)
    if in_source_space:
        return views
    out = torch.empty(len(views), 3, side_px, side_px, device=torch_device(device))
    colour_normalized(torch.from_numpy(views).to(out.device), draw, out)
    return levels_of(out)[..., :channels]


def render_by_product(
    images: np.ndarray,
    draw: ViewDraw,
    side_px: int,
    early: Params | None = None,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> np.ndarray:
    """A `Render` through `dali_pipes.product.views`."""
    out = torch.empty(1, len(images), 3, side_px, side_px, dtype=dtype, device=device)
    group = GroupDraws(
        ViewGroup("local", 1, side_px),
        draw[(None, ...)],
        from_aux=np.zeros(len(images), bool),
        shift={f"0.{name}": values[None] for name, values in (early or {}).items()},
        negative=None if early is None else parse_negatives(EARLY)[0],
    )
    maker = product_views(images.shape[1], side_px, dtype, device)
    maker.make(torch.from_numpy(images).to(device), [group], out)
    return levels_of(out[0])[..., : images.shape[-1]]


@cache
def product_views(
    source_px: int, side_px: int, dtype: torch.dtype, device: torch.device
) -> ProductViews:
    """Their tables are made once for all rows."""
    spec = ViewSpec()
    scale = spec.local_scale[0], spec.global_scale[1]
    return ProductViews(spec, side_px, scale, (source_px, source_px), dtype, device)


def shift_by_dali(
    views: np.ndarray, name: str, params: Mapping[str, np.ndarray], *, device: str
) -> np.ndarray:
    """A `Shifter` through the graph form."""
    shift, side_px = shift_named(name), views.shape[1]
    return run_graph(views, lambda view, nodes: shift.graph(view, nodes, side_px), params, device)


def shift_by_torch(
    views: np.ndarray, name: str, params: Mapping[str, np.ndarray], *, device: torch.device
) -> np.ndarray:
    """A `Shifter` through the tensor form."""
    planes = torch.from_numpy(views).permute(0, 3, 1, 2).to(device)
    given = {key: torch.from_numpy(value).to(device) for key, value in params.items()}
    black = torch.zeros(planes.shape[1], device=device)
    return shift_named(name).tensor(planes, given, black).permute(0, 2, 3, 1).cpu().numpy()


def run_graph(
    images: np.ndarray, function: Callable, params: Mapping[str, np.ndarray], device: str
) -> np.ndarray:
    """`function(image node, parameter nodes)` on uint8 [B, H, W, C]; parameters on the CPU."""
    from nvidia.dali import fn
    from nvidia.dali.pipeline import pipeline_def

    @pipeline_def(enable_conditionals=True)
    def graph():
        image, *nodes = fn.external_source(
            source=lambda: [images, *params.values()],
            num_outputs=1 + len(params),
            batch=True,
            layout=["HWC", *[""] * len(params)],
        )
        if device == "gpu":
            image = image.gpu()
        return function(image, dict(zip(params, nodes)))  # noqa: B905 (rewritten by DALI)

    device_id = 0 if device == "gpu" else None
    pipeline = graph(batch_size=len(images), num_threads=2, device_id=device_id)
    pipeline.build()
    (output,) = pipeline.run()
    return np.asarray((output.as_cpu() if device == "gpu" else output).as_array())


# The report.


def show(rows: Sequence[Row], laws: Sequence[Law]) -> None:
    """Print both tables."""
    console = Terminal(width=140)
    table = Table("operation", "sources", "engine", title="Differences in levels of 0..255")
    for heading in ("mean", "worst view", "max", "limits", "verdict", "mean to Pillow's"):
        table.add_column(heading, justify="right")
    for row in rows:
        pillow = "-" if row.mean_pillow is None else f"{row.mean_pillow:.2f}"
        table.add_row(
            *(row.operation, row.sources, row.engine),
            *(f"{row.mean:.2f}", f"{row.view:.2f}", f"{row.worst:.0f}"),
            *(str(row.limit), row.verdict, pillow),
        )
    console.print(table)
    table = Table("drawn", "test", title="Draws against torchvision's")
    for heading in ("ours, mean", "expected", "statistic", "p", "verdict"):
        table.add_column(heading, justify="right")
    for law in laws:
        numbers = (f"{number:.4g}" for number in (law.ours, law.theirs, law.statistic, law.p))
        table.add_row(law.quantity, law.test, *numbers, "pass" if law.passed else "FAIL")
    console.print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Compare everything and print it; exit with 1 if a row failed."""
    config = cli.parse(ParityConfig, argv, description=__doc__)
    for field in fields(config):
        if getattr(config, field.name) < (0 if field.name == "seed" else 1):
            raise UserError(f"{field.name} is {getattr(config, field.name)}, expected more")
    devices = ["cpu", *(["gpu"] if torch.cuda.is_available() else [])]
    rows = [
        *compare_views(engines(devices), config),
        *compare_shifts(shifters(devices), config),
    ]
    laws = compare_draws(config.draws, config.seed)
    show(rows, laws)
    passed = all(row.passed for row in rows) and all(law.passed for law in laws)
    report = {
        "rows": [{**asdict(row), "verdict": row.verdict} for row in rows],
        "draws": [{**asdict(law), "passed": law.passed} for law in laws],
        "passed": passed,
    }
    print(json.dumps(report))
    sys.exit(0 if passed else 1)
