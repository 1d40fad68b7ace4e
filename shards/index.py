"""DALI's WebDataset index, v1.2, in pure Python: where each component of each sample lies in a tar.

    v1.2 <samples>
    <extension> <offset> <size> <member name>[ <extension> <offset> <size> <member name> ...]

One line a sample, one group a component; offsets are those of the data, past the 512-byte header.
DALI trusts these numbers: a size past the end of the tar crashes it, a count that is too small
drops samples without a word. So an index is parsed strictly, and `shards.verify` checks it against
its tar, before DALI or the reader sees it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shards.cli import UserError

VERSION = "v1.2"


@dataclass(frozen=True)
class Component:
    """One component (one extension) of all samples of a tar."""

    offsets: np.ndarray
    """Position of the data in the tar, bytes: int64 [samples]."""
    sizes: np.ndarray
    """Length of the data, bytes: int64 [samples]."""
    names: tuple[str, ...]
    """Member names, `<key>.<extension>`."""


def format_index(components: Mapping[str, Component]) -> str:
    """The text that DALI's wds2idx writes, from extension -> component in the order of the tar."""
    columns = []
    for extension, component in components.items():
        places = zip(component.offsets, component.sizes, component.names, strict=True)
        columns.append([f"{extension} {offset} {size} {name}" for offset, size, name in places])
    lines = [" ".join(groups) for groups in zip(*columns, strict=True)]
    return "\n".join([f"{VERSION} {len(lines)}", *lines]) + "\n"


def parse_index(text: str, path: object) -> dict[str, Component]:
    """Extension -> component, from the text of an index in which all samples are made alike.

    Args:
        text: The index.
        path: What to call the file in an error.

    Raises:
        UserError: a line is malformed, has other components than the first, or is missing or one
            too many; the message names `path` and the line.
    """
    first, *lines = text.split("\n")
    head = re.fullmatch(rf"{re.escape(VERSION)} ([1-9][0-9]{{0,11}})", first)
    if head is None:
        raise UserError(f"{path}, line 1: {first[:80]!r}, expected '{VERSION} <samples>'")
    if lines[-1:] != [""]:
        raise UserError(f"{path}, line {len(lines) + 1}: the last line is cut")
    lines.pop()
    if len(lines) != int(head[1]):
        raise UserError(f"{path}, line 1: says {head[1]} samples, {len(lines)} lines follow")
    extensions = lines[0].split(" ")[0::4]
    if len(set(extensions)) != len(extensions):
        raise UserError(f"{path}, line 2: a component comes twice: {lines[0][:80]!r}")
    number = "(0|[1-9][0-9]{0,17})"
    pattern = re.compile(" ".join(rf"{re.escape(e)} {number} {number} (\S+)" for e in extensions))
    rows = []
    for line_number, line in enumerate(lines, start=2):
        row = pattern.fullmatch(line)
        if row is None:
            expected = f"'<extension> <offset> <size> <name>' of {', '.join(extensions)}"
            raise UserError(f"{path}, line {line_number}: {line[:80]!r}, expected {expected}")
        rows.append(row.groups())
    columns = list(zip(*rows, strict=True))
    return {
        extension: Component(
            np.array([int(offset) for offset in columns[3 * i]], np.int64),
            np.array([int(size) for size in columns[3 * i + 1]], np.int64),
            columns[3 * i + 2],
        )
        for i, extension in enumerate(extensions)
    }
