"""DALI's WebDataset index, v1.2, in pure Python: the place of each component of a tar's samples.

    v1.2 <samples>
    <extension> <offset> <size> <key>.<extension>[ <extension> <offset> ...]

There is one line for each sample, with one such group for each component. An offset points to the
data, after the 512-byte header. DALI trusts these numbers: a size beyond the end of the tar crashes
it, and a count that is too small silently drops samples. So an index is parsed strictly, and
`shards.verify` checks it against its tar before DALI or the reader sees it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shards.errors import UserError
from shards.format.tar import KEY_DIGITS

VERSION = "v1.2"


@dataclass(frozen=True)
class Component:
    """One component (one extension) of all samples of a tar."""

    offsets: np.ndarray
    """The position of the data in the tar, bytes: int64 [samples]."""
    sizes: np.ndarray
    """The size of the data, bytes: int64 [samples]."""


@dataclass(frozen=True)
class Index:
    """The place of everything in one tar."""

    keys: np.ndarray
    """The keys of the samples as numbers: int64 [samples]."""
    components: Mapping[str, Component]
    """Extension -> component, in the order of the tar."""


def format_index(index: Index) -> str:
    """Return the text that DALI's wds2idx writes."""
    keys = [f"{key:0{KEY_DIGITS}d}" for key in index.keys.tolist()]
    columns = []
    for extension, component in index.components.items():
        places = zip(component.offsets.tolist(), component.sizes.tolist(), keys, strict=True)
        columns.append(
            [f"{extension} {offset} {size} {k}.{extension}" for offset, size, k in places]
        )
    lines = (
        columns[0] if len(columns) == 1 else [" ".join(line) for line in zip(*columns, strict=True)]
    )
    return "\n".join([f"{VERSION} {len(keys)}", *lines]) + "\n"


def parse_index(text: str, path: object) -> Index:
    """Return the content of an index whose samples all have the same components.

    Args:
        text: The text of the index.
        path: The file, for messages.

    Raises:
        UserError: A line is malformed, is missing, is one too many, or has other components than
            the first; the message names `path` and the line.
    """
    first, _, rest = text.partition("\n")
    head = re.fullmatch(rf"{re.escape(VERSION)} ([1-9][0-9]{{0,11}})", first)
    if head is None:
        raise UserError(f"{path}, line 1: {first[:80]!r}, expected '{VERSION} <samples>'")
    if not rest.endswith("\n"):
        lines = text.count("\n") + 1
        raise UserError(f"{path}, line {lines}: the last line is cut")
    samples = int(head[1])
    if rest.count("\n") != samples:
        raise UserError(
            f"{path}, line 1: says {samples} samples, {rest.count(chr(10))} lines follow"
        )
    extensions = rest.partition("\n")[0].split(" ")[0::4]
    if len(set(extensions)) != len(extensions):
        raise UserError(f"{path}, line 2: a component comes twice: {rest[:80]!r}")
    numbers = _numbers(rest)
    if len(numbers) == samples * 3 * len(extensions) and (numbers >= 0).all():
        table = numbers.reshape(samples, len(extensions), 3)  # offset, size, key
        index = Index(
            table[:, 0, 2],
            {e: Component(table[:, i, 0], table[:, i, 1]) for i, e in enumerate(extensions)},
        )
        # All that is not a number (names, spaces, signs) is right if the text comes back the same.
        if format_index(index) == text:
            return index
    raise UserError(f"{path}, {_first_wrong_line(rest, extensions)}")


def _numbers(text: str) -> np.ndarray:
    """Return all numbers of a text, int64; none if what is between them is malformed."""
    digits = text.encode("ascii", "replace").translate(None, delete=_NOT_NUMBERS)
    try:
        return np.fromstring(digits, np.int64, sep=" ")
    except ValueError:
        return np.zeros(0, np.int64)


_NOT_NUMBERS = bytes(code for code in range(128) if chr(code) not in "0123456789- \n?")


def _first_wrong_line(rest: str, extensions: list[str]) -> str:
    number = "(?:0|[1-9][0-9]{0,17})"
    key = f"([0-9]{{{KEY_DIGITS}}})"
    groups = [rf"{re.escape(extensions[0])} {number} {number} {key}\.{re.escape(extensions[0])}"]
    groups += [rf"{re.escape(e)} {number} {number} \1\.{re.escape(e)}" for e in extensions[1:]]
    pattern = re.compile(" ".join(groups))
    expected = f"'<extension> <offset> <size> <key>.<extension>' of {', '.join(extensions)}"
    for line_number, line in enumerate(rest.split("\n"), start=2):
        if pattern.fullmatch(line) is None:
            return f"line {line_number}: {line[:80]!r}, expected {expected}"
    return f"line 2: expected {expected}"
