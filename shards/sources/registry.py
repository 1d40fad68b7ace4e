"""Functions that open a source by the name of its format, and that find its files in a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from shards.errors import UserError
from shards.sources.formats import FORMATS, Format
from shards.sources.kinds import tell
from shards.sources.source import Source
from shards.terminal.mistakes import did_you_mean

__all__ = ["FORMATS", "Format", "locate", "open_source"]


def open_source(
    format: str,  # noqa: A002
    src: Path | str,
    split: str,
    component: str | None = None,
) -> Source:
    """Open one split of a data set.

    If entries of the folder or archive are not used as images, a note on stderr counts them.

    Args:
        format: The name of a format: a key of FORMATS.
        src: The official file or folder, or a folder that contains it in a subfolder, at most two
            levels below. For "webdataset", it may also be a URL or a brace pattern.
        split: One of the format's splits. Any name if the format has no splits.
        component: Only for "webdataset": the component that is the image of each sample.

    Raises:
        UserError: There is no such format, split or file, or the file is not in this format.
        OSError: A file or folder cannot be read.
    """
    found = _format(format)
    _check_split(format, split)
    source = _opened(found, format, src, split, component)
    tell(src, source.passed_over)
    return source


def _opened(
    found: Format,
    format: str,  # noqa: A002
    src: Path | str,
    split: str,
    component: str | None,
) -> Source:
    if found.takes_component:
        return found.open(src, split, component)
    if component is not None:
        raise UserError(f"component is {component!r}, but the samples of {format} have none")
    src = Path(src)
    if not src.exists():
        raise UserError(f"{src}: no such file or folder")
    for other in found.splits:
        names = _names(found, split)
        if src.name in _names(found, other) and src.name not in names:
            raise UserError(f"{src}: is split {other!r}, expected {split!r} ({', '.join(names)})")
    return found.open(locate(format, split, src) or src, split)


def locate(format: str, split: str, src: Path) -> Path | None:  # noqa: A002
    """Find the official file or folder of a format, which `FORMATS[format].open` then opens.

    The file may be `src` itself, or be in `src`, or in a subfolder at most two levels below `src`.
    Subfolders that may not be read (such as lost+found) are ignored. If several files exist, the
    first in `FORMATS[format].files` is found.

    Returns:
        The path of the file or folder, or None if it is not found. If the format has no file names,
        `src` if it exists.

    Raises:
        UserError: There is no such format or split.
        OSError: `src` is a folder that cannot be listed.
    """
    names = _names(_format(format), split)
    _check_split(format, split)
    if not names:
        return src if src.exists() else None
    for name in names:
        for path in _at(src.absolute(), name):
            if os.path.exists(path):
                return path
    folders = _folders(src)
    for folder in tuple(folders):
        with contextlib.suppress(OSError):
            folders += _folders(folder)
    for name in names:
        for folder in folders:
            if not name.startswith("./") and os.path.exists(folder / name):
                return folder / name
    return None


def _format(name: str) -> Format:
    if name not in FORMATS:
        hint = did_you_mean(name, FORMATS)
        raise UserError(f"format is {name!r}, there are: {', '.join(FORMATS)}{hint}")
    return FORMATS[name]


def _check_split(format: str, split: str) -> None:  # noqa: A002
    splits = FORMATS[format].splits
    if splits and split not in splits:
        hint = did_you_mean(split, splits)
        raise UserError(f"split is {split!r}, {format} has: {', '.join(splits)}{hint}")


def _names(found: Format, split: str) -> list[str]:
    return [name.replace("{split}", split) for name in found.files]


def _at(src: Path, name: str) -> Iterator[Path]:
    """Yield the paths at which the file or folder `name` may be, if the user gave the path `src`.

    For example, if `name` is "MNIST/raw", the user may give "x/MNIST/raw", "x/MNIST" or "x".
    """
    parts = Path(name).parts
    for count in range(len(parts), 0, -1):
        if src.parts[-count:] == parts[:count]:
            yield src.joinpath(*parts[count:])
    yield src / name


def _folders(folder: Path) -> list[Path]:
    # `Path.is_dir` and `DirEntry.is_dir` may raise if a folder may not be read; `os.path.isdir`
    # returns False.
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if not e.name.startswith(".") and os.path.isdir(e)]
    return [folder / name for name in sorted(names)]
