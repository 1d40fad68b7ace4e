"""Data sets in the WebDataset format, made by other programs. Members with one key are a sample.

    shard-000.tar: 0001.jpg 0001.cls 0002.jpg 0002.cls ...

The path of a member is split at the first dot of its base name. The part before the dot is the key
of the sample, and the part after the dot is the name of the component. For example, `a/1.seg.png`
is the component `seg.png` of the sample `a/1`.

The user may name the component that is the image of each sample. By default, the image is the only
component that is just the extension of an image, such as `jpg`. If there is no such component, the
image is the only component that ends with such an extension, such as `seg.png`. The label is the
component `cls` (a number in ASCII), or the field "label" or "cls" of the component `json`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from array import array
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import numpy as np
from braceexpand import braceexpand

from shards.disk.file_system import LACKS, passing_over
from shards.errors import UserError
from shards.pixels.limits import refuse_large
from shards.sources.files import no_room
from shards.sources.kinds import NO_SAMPLE, OTHER_IMAGE, is_named_image
from shards.sources.listing import Listing
from shards.sources.tars import Member, member_file, open_tar, read_at, tar_members

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
MAX_LABEL_DIGITS = 6
"""The largest number of digits of a label. It limits the memory that the class names take, because
every number from 0 to the highest label gets a class name."""
MAX_LABEL_BYTES = 16 << 20
"""The largest size of a component that holds a label, in bytes."""
_KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")
_META = re.compile(r"__[^/]*__($|/)")


class WebDatasetImages:
    """A source whose images are the samples of WebDataset tars, in the order of the members."""

    channels = 3

    def __init__(
        self,
        paths: list[Path],
        component: str | None = None,
        temporary: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        """Find all samples from the headers of the tars, and read the labels.

        Args:
            paths: The tars.
            component: The name of the component that is the image of each sample. By default, the
                only component that is an image, such as "jpg".
            temporary: The temporary folder that contains the tars, if any. It is removed when this
                source is deleted.

        Raises:
            UserError: A tar is damaged or is named twice. Or a sample has no image, several
                possible images, two components of the same name, or members that are not next to
                each other. Or a label is not a number, or only some samples have labels.
        """
        if len(set(paths)) < len(paths):
            twice = next(path for path in paths if paths.count(path) > 1)
            raise UserError(f"{twice}: is named twice")
        self.paths = tuple(paths)
        self._temporary = temporary
        self._names: list[str] = []
        self._tars, self._offsets, self._sizes = array("i"), array("q"), array("q")
        # Only decompressed copies stay open, because a process may not open very many files.
        self._copies: dict[int, IO[bytes]] = {}
        labels: list[int | None] = []
        listing = Listing()
        for tar, (path, name) in enumerate(zip(paths, _tar_names(paths), strict=True)):
            file = open_tar(path)
            members = tar_members(file, str(path), listing, prefix="")
            for key, components in _samples(members, path, listing):
                images = [c for c in components if is_named_image(f".{c}")]
                image = _image(components, images, component, f"{path}: sample {key!r}")
                if others := len(set(images) - {image}):
                    listing.lost[OTHER_IMAGE] += others
                self._names.append(f"{name}/{key}")
                self._tars.append(tar)
                self._offsets.append(components[image].offset)
                self._sizes.append(components[image].size)
                labels.append(_label(components, file, f"{path}: sample {key!r}"))
            if file.name == str(path):
                file.close()
            else:
                self._copies[tar] = file
        if not labels:
            raise UserError(f"{paths[0]}: no samples")
        known = [label for label in labels if label is not None]
        if known and len(known) < len(labels):
            first = labels.index(None)
            tar = self._tars[first]
            key = self._names[first].removeprefix(f"{_tar_names(paths)[tar]}/")
            raise UserError(
                f"{paths[tar]}: sample {key!r} has no label, {len(known)} of {len(labels)} have one"
            )
        self.passed_over = dict(sorted(listing.lost.items()))
        is_labelled = bool(known)
        self.labels = np.array(known, np.int64) if is_labelled else None
        self.classes = tuple(str(i) for i in range(max(known) + 1)) if is_labelled else ()

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._names)

    def name(self, index: int) -> str:
        """Return the name of sample `index`: the name of its tar, "/" and its key."""
        return self._names[index]

    def read(self, index: int) -> bytes:
        """Return the encoded image of sample `index`.

        Raises:
            BadImage: The image is too large.
            UserError: The tar was cut after it was opened.
            OSError: The tar cannot be read.
        """
        tar, offset, size = self._tars[index], self._offsets[index], self._sizes[index]
        path = self.paths[tar]
        with contextlib.ExitStack() as stack:
            file = self._copies.get(tar) or stack.enter_context(open(path, "rb", buffering=0))
            refuse_large(size, lambda: member_file(file, path, offset, size))
            return read_at(file.fileno(), offset, size, path)


def open_webdataset(src: Path | str, split: str, component: str | None = None) -> WebDatasetImages:
    """Open the samples of one tar or several tars.

    Args:
        src: A tar, a folder of tars, a brace pattern (`shard-{000..012}.tar`), or a URL that the
            package `webdataset` can open. A URL may have braces too. Remote tars are copied to
            temporary files.
        split: Any name; it is not used.
        component: The name of the component that is the image of each sample. By default, the only
            component that is an image, such as "jpg".

    Raises:
        UserError: A tar is missing, cannot be fetched, or is not in the WebDataset format.
    """
    if "://" in str(src):
        # The folder is removed when the source is deleted, or when the process ends.
        temporary = tempfile.TemporaryDirectory(prefix="oodino-")
        urls = _expand(str(src))
        copies = [_fetch(url, Path(temporary.name) / f"{i}") for i, url in enumerate(urls)]
        return WebDatasetImages(copies, component, temporary)
    path = Path(src)
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.name.endswith(TAR_SUFFIXES) and p.is_file())
        if not paths:
            raise UserError(f"{path}: no tars in it ({' '.join(TAR_SUFFIXES)})")
        return WebDatasetImages(paths, component)
    paths = [path] if path.exists() else [Path(name) for name in _expand(str(path))]
    for one in paths:
        if not one.is_file():
            raise UserError(f"{one}: no such tar")
    return WebDatasetImages(paths, component)


def _tar_names(paths: list[Path]) -> list[str]:
    """Return the file names of tars, or if two are equal, the paths from the common folder."""
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    common = os.path.commonpath(paths)
    return [os.path.relpath(path, common) for path in paths]


def _expand(pattern: str) -> list[str]:
    try:
        return list(braceexpand(pattern))
    except ValueError as error:
        raise UserError(f"{pattern}: its braces are not balanced") from error


def _fetch(url: str, folder: Path) -> Path:
    """Copy the file at `url` into the new folder `folder`, and return the path of the copy."""
    import webdataset  # Imported here, because it imports torch, which `shards` does not need.

    name = os.path.basename(urlsplit(url).path)
    path = folder / (name if name.strip(".") else "shard.tar")
    folder.mkdir()
    try:
        with webdataset.gopen(url) as stream, open(path, "wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
    except (OSError, ValueError, ImportError) as error:
        raise no_room(url, error) or UserError(f"{url}: cannot be fetched: {error}") from error
    # The time of the copy is fixed, so that two copies of one file have the same time.
    with passing_over("keeps no times of files", path, LACKS | {errno.EPERM}):
        os.utime(path, (0, 0))
    return path


def _image(
    components: dict[str, Member], images: list[str], component: str | None, sample: str
) -> str:
    """Return the name of the component that is the image of a sample.

    Args:
        components: All components of the sample: name -> member.
        images: The names of the components that end with the extension of an image.
        component: The name of the component that the user chose. None if the user chose none.
        sample: The name of the sample in error messages.

    Raises:
        UserError: The chosen component is missing, or the sample has no image or several images.
    """
    has = ", ".join(components)
    if component is not None:
        if component.lower() not in components:
            raise UserError(f"{sample} has no component {component!r}; it has {has}")
        return component.lower()
    likely = [name for name in images if "." not in name] or images
    if not likely:
        raise UserError(f"{sample} has no image; it has {has}")
    if len(likely) > 1:
        raise UserError(
            f"{sample} has {len(likely)} images, {', '.join(likely)}: "
            f"name one (--component {likely[0]})"
        )
    return likely[0]


def _samples(
    members: list[Member], path: Path, listing: Listing
) -> Iterator[tuple[str, dict[str, Member]]]:
    """Yield the key and the components (name -> member) of each sample in the tar `path`.

    The members that belong to no sample are counted in `listing`.
    """
    split = [(_KEY.fullmatch(m.name), m) for m in members if not _META.match(m.name)]
    if unkeyed := sum(found is None for found, _ in split):
        listing.lost[NO_SAMPLE] += unkeyed
    named = [(found[1], found[2].lower(), m) for found, m in split if found]
    seen = set()
    for key, group in groupby(named, key=lambda one: one[0]):
        if key in seen:
            raise UserError(f"{path}: sample {key!r} goes on after another one began")
        seen.add(key)
        components: dict[str, Member] = {}
        for _, component, member in group:
            if component in components:
                raise UserError(f"{path}: sample {key!r} has component {component!r} twice")
            components[component] = member
        yield key, components


def _label(components: dict[str, Member], file: IO[bytes], sample: str) -> int | None:
    """Return the label of a sample, or None if the sample has no label.

    Raises:
        UserError: The component that holds the label is damaged or too large.
    """
    for component in ("cls", "json"):
        if component in components:
            member = components[component]
            if member.size > MAX_LABEL_BYTES:
                raise UserError(f"{sample}: its {component} has {member.size:,} bytes")
            data = read_at(file.fileno(), member.offset, member.size, Path(sample))
            label = _number(data) if component == "cls" else _number_in_json(data, sample)
            if label is None and component == "cls":
                raise UserError(f"{sample}: its cls is {data[:20]!r}, expected a number")
            return label
    return None


def _number(data: bytes) -> int | None:
    text = data.strip()
    return int(text) if text.isdigit() and len(text) <= MAX_LABEL_DIGITS else None


def _number_in_json(data: bytes, sample: str) -> int | None:
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{sample}: its json is damaged: {error}") from error
    if isinstance(content, dict):
        for field in ("label", "cls"):
            value = content.get(field)
            if type(value) is int and 0 <= value < 10**MAX_LABEL_DIGITS:
                return value
    return None
