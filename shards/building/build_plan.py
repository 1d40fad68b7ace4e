"""A build request, and the checked plan that is made from it before any image is decoded."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import PIL
import tyro
from PIL import ImageColor, features

from shards.building.exclude import read_exclusions
from shards.building.provenance import MD5, stamp
from shards.errors import UserError
from shards.manifest import FORMAT_VERSION, MAX_NUMBER, MAX_SIZE_PX, NAME, Manifest
from shards.pixels.levels import WHITE, is_intensity
from shards.pixels.resize import FITS, RESIZES, Fit, Resize, fit_of
from shards.pixels.target import Target
from shards.sources.arrays import Images
from shards.sources.registry import FORMATS, open_source
from shards.sources.source import Source
from shards.terminal.environment import usable_cpus


@dataclass(frozen=True)
class BuildRequest:
    """The source of a set, and the options of its build."""

    source: Annotated[str, tyro.conf.arg(help=f"Format of the source: {', '.join(FORMATS)}.")]
    """Format of the source: a name in `FORMATS`."""
    src: str | Path
    """The official file or folder, or a folder that contains this file or folder. For webdataset it
    may also be a URL."""
    size_px: int
    """Height and width of the stored images, in pixels, 1 to 1024."""
    out: Path
    """Folder to write the set to. It must not exist yet."""
    split: str = "train"
    """The official split to read. For your own images this is only a name."""
    labels: tuple[int, ...] = ()
    """Take only images with these labels, which are not renumbered. By default take all images."""
    channels: Literal[1, 3] | None = None
    """Channels of the stored images: 1 (gray) or 3 (RGB). By default this is the number of channels
    of the source, and 3 for image files."""
    encoding: Literal["raw", "png", "jpg"] = "raw"
    """Form in which images are stored. raw = pixels, best for up to 64 px; png = PNG files; jpg =
    JPEG files. With jpg, a JPEG file that already has the right size is stored without encoding it
    again, and every other image is encoded at quality 95."""
    resize: Resize = "pillow-bicubic"
    """Resampling filter. A name that ends with -crop or -pad also sets --fit to crop or pad."""
    fit: Fit | None = None
    """Way in which an image that is not square becomes square. squash = it is squeezed (the
    default); crop = the middle square is taken; pad = the background colour is added."""
    background: str = WHITE
    """Colour that replaces transparent pixels of image files, as a name or #rrggbb."""
    intensity: Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="LOW HIGH")] = None
    """The values that become black and white in image files with more than 8 bits per value. They
    apply to every such file that does not state its own range. By default these files are
    refused."""
    component: str | None = None
    """File extension of the member of each WebDataset sample that is the image, such as jpg or
    left.png. It is needed only if several members are images."""
    name: str | None = None
    """Name of the set and of its files; by default the name of the output folder."""
    seed: int = 0
    """Seed of the shuffle of the whole set."""
    shard_samples: int = 10_000
    """Number of samples per tar."""
    workers: int = usable_cpus()
    """Number of threads that decode and resize images; by default one per CPU."""
    classes: tuple[str, ...] = ()
    """Class name of each label; by default the names in the source."""
    exclude: Path | None = None
    """File that lists images to leave out, one JSON object {"name": ...} per line. `shards.overlap`
    writes such files."""
    max_rejects_pct: float = 1.0
    """Largest percentage of images that may be impossible to decode. If there are more, the build
    fails."""
    md5: bool = True
    """Refuse official files whose md5 is not the published one."""
    count: bool = True
    """Refuse official files whose number of images is not the published one."""
    protocol: str = ""
    """Name of the protocol that the set belongs to; empty for a set of your own."""


@dataclass(frozen=True)
class Plan:
    """A checked request: the images that will be stored, their order and their form."""

    source: Source
    order: np.ndarray
    """The shuffled order of the selected images, int64 [number of places]: entry i is the index in
    the source of the image at place i."""
    target: Target
    max_rejects: int
    """The largest number of bad images that the build accepts."""
    manifest: Manifest
    """The manifest as far as it is known before any image is read. Its fields about source files,
    shards and rejects are still empty, and `samples` counts all selected images."""
    stamp: str
    """A digest of the names, sizes and modification times of the source's files at the time when
    the source was opened (see the function `stamp`)."""

    @property
    def shards(self) -> int:
        """The number of shards. A shard whose images are all rejected is also counted."""
        return -(-len(self.order) // self.manifest.shard_samples)

    @property
    def folder(self) -> Path | None:
        """The folder of the source's image files; None if the source has no such folder."""
        folders = [path for path in self.source.paths if path.is_dir()]
        return folders[0] if folders else None

    def places(self, number: int) -> range:
        """Return the range of places, in the shuffled order, that shard `number` holds."""
        size = self.manifest.shard_samples
        return range(number * size, min((number + 1) * size, len(self.order)))

    @property
    def identity(self) -> str:
        """A digest of everything on which the bytes of the set depend.

        Two builds with the same identity write the same shards. The source enters with its stamp,
        because reading its content would take too long.
        """
        versions = [PIL.__version__, features.version("jpg"), np.__version__]
        versions.append(features.version("littlecms2"))
        if self.target.encoding != "raw":
            dali = [d.version for d in metadata.distributions() if d.name.startswith("nvidia-dali")]
            versions += sorted(dali)
        # Entries that are passed over, such as hidden files, may come and go; no sample changes.
        manifest = dataclasses.replace(self.manifest, passed_over={})
        facts = [manifest.sha256, self.target.resize, self.stamp, versions]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def refuse_changed_source(self) -> None:
        """Raise a `UserError` if a file of the source changed since the source was opened."""
        if stamp(self.source.paths) != self.stamp:
            raise UserError(f"{self.source.paths[0]}: changed while it was read")


def plan(request: BuildRequest) -> Plan:
    """Open the source, check the request against the source, and draw the order of the samples.

    Raises:
        UserError: A field of the request is out of range or does not fit the source; the source
            cannot be read; its number of images is not the published number; or it has no image
            that the request asks for.
    """
    name = _check_fields(request)
    source = open_source(request.source, request.src, request.split, request.component)
    opened_stamp = stamp(source.paths)
    published = FORMATS[request.source].counts.get(request.split)
    if request.count and published is not None and len(source) != published:
        raise UserError(
            f"{request.src}: {len(source)} images in split {request.split}, published are "
            f"{published} (--no-count takes them as they are)"
        )
    selected, excluded, exclude_sha256 = _selected(request, source)
    order = np.random.default_rng(request.seed).permutation(selected)
    channels = request.channels or source.channels
    if request.classes and source.labels is None:
        raise UserError(f"classes are {request.classes}, {request.src} is unlabelled")
    if request.classes and len(request.classes) != len(source.classes):
        raise UserError(
            f"classes: {len(request.classes)} names, {request.src} has {len(source.classes)}"
        )
    target = _target(request, channels)
    holds_pixels = isinstance(source, Images)
    if request.intensity is not None and holds_pixels:
        raise UserError(f"intensity is {request.intensity}, {request.src} holds pixels of 8 bits")
    checks = ("count",) if request.count and published is not None else ()
    published_md5 = FORMATS[request.source].md5
    if request.md5 and source.paths and all(p.name in published_md5 for p in source.paths):
        checks = (MD5, *checks)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=name,
        split=request.split,
        protocol=request.protocol,
        source=request.source,
        samples=len(order),
        height_px=request.size_px,
        width_px=request.size_px,
        channels=channels,
        encoding=request.encoding,
        resize="",
        classes=request.classes or source.classes,
        labels=tuple(sorted(set(request.labels))),
        sources=(),
        checks=checks,
        excluded=excluded,
        exclude_sha256=exclude_sha256,
        rejects=0,
        rejects_sha256="",
        shuffle_seed=request.seed,
        shard_samples=request.shard_samples,
        names_sha256="",
        shards=(),
        background="" if holds_pixels and fit_of(target.resize) != "pad" else target.background,
        intensity=target.intensity,
        component=(request.component or "").lower(),
        passed_over=dict(source.passed_over),
    )
    return Plan(
        source=source,
        order=order,
        target=target,
        max_rejects=int(request.max_rejects_pct / 100 * len(order)),
        manifest=manifest,
        stamp=opened_stamp,
    )


def _target(request: BuildRequest, channels: int) -> Target:
    """Return the form in which images are stored, after checking the fields that describe it."""
    rule = request.resize
    if request.fit is not None:
        if fit_of(rule) not in ("squash", request.fit):
            raise UserError(f"resize is {rule}, which contradicts fit {request.fit}")
        if request.fit != fit_of(rule):
            rule = next(one for one in RESIZES if one == f"{rule}-{request.fit}")
    colour: tuple[int, ...] = ()
    with contextlib.suppress(ValueError):
        colour = ImageColor.getrgb(request.background)
    if len(colour) != 3:
        raise UserError(f"background is {request.background!r}, expected a colour: white, #ffffff")
    if request.intensity is not None:
        low, high = request.intensity
        if not is_intensity(low, high):
            raise UserError(f"intensity is {low:g} {high:g}, expected two numbers, the lower first")
    how = rule, f"#{bytes(colour).hex()}", request.intensity
    return Target(request.size_px, channels, request.encoding, *how)


def _check_fields(request: BuildRequest) -> str:
    """Check the fields that can be checked without the source, and return the name of the set."""
    if not 1 <= request.size_px <= MAX_SIZE_PX:
        raise UserError(f"size_px is {request.size_px}, expected 1 to {MAX_SIZE_PX}")
    for field in ("shard_samples", "workers"):
        if getattr(request, field) < 1:
            raise UserError(f"{field} is {getattr(request, field)}, expected at least 1")
    if not 0 <= request.seed <= MAX_NUMBER:
        raise UserError(f"seed is {request.seed}, expected 0 to {MAX_NUMBER}")
    if not 0 <= request.max_rejects_pct <= 100:
        raise UserError(f"max_rejects_pct is {request.max_rejects_pct}, expected 0 to 100")
    if request.resize not in RESIZES:
        raise UserError(f"resize is {request.resize!r}, expected {', '.join(RESIZES)}")
    if request.fit not in (None, *FITS):
        raise UserError(f"fit is {request.fit!r}, expected {', '.join(FITS)}")
    name = request.name
    if name is None:
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", request.out.absolute().name).strip("-")
    for field, value in (("name", name), ("split", request.split)):
        if not re.fullmatch(NAME, value):
            raise UserError(f"{field} is {value!r}, expected 1 to 80 of A-Z a-z 0-9 _ -")
    return name


def _selected(request: BuildRequest, source: Source) -> tuple[np.ndarray, int, str]:
    """Select the images by label and by exclusion list.

    Returns:
        The indexes of the selected images in the source, int64, ascending; the number of images
        that the exclusion list left out; and the sha256 of the exclusion list, or "" without one.
    """
    selected = np.arange(len(source))
    if request.labels:
        if source.labels is None:
            raise UserError(f"labels are {request.labels}, {request.src} is unlabelled")
        unknown = sorted(set(request.labels) - set(range(len(source.classes))))
        if unknown:
            raise UserError(f"labels {unknown} unknown, {request.src} has {len(source.classes)}")
        selected = selected[np.isin(source.labels, request.labels)]
    excluded, exclude_sha256 = 0, ""
    if request.exclude is not None:
        names, exclude_sha256 = read_exclusions(request.exclude)
        left = np.array([i for i in selected.tolist() if source.name(i) not in names], np.int64)
        for index in range(len(source)):
            names.discard(source.name(index))
        if names:
            raise UserError(
                f"{request.exclude}: {len(names)} names are not in {request.src}, "
                f"{min(names)!r} for one; is it the list of another source?"
            )
        excluded, selected = len(selected) - len(left), left
    if not len(selected):
        asked = f"with labels {request.labels}" if request.labels else "in it"
        raise UserError(f"{request.src}: no images {asked}")
    return selected, excluded, exclude_sha256
