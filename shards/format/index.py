"""The WebDataset index of DALI, version v1.2: the place of each member of a tar, as a text file.

    v1.2 <number of samples>
    <extension> <offset> <size> <key>.<extension>[ <extension> <offset> ...]

After the first line, each sample has one line. The line has the four fields once per component of
the sample. An offset points to the data of the member, after its header of 512 bytes.

DALI does not check these numbers. If a size reaches beyond the end of the tar, DALI crashes. If the
number of samples is too small, DALI silently skips samples. So `parse_index` accepts only the exact
format, and `shards.verify` compares the index with its tar before DALI or the reader uses it.
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
    """The places of all members of a tar that have the same extension."""

    offsets: np.ndarray
    """The position of each sample's data in the tar, in bytes: int64 [samples]."""
    sizes: np.ndarray
    """The size of each sample's data, in bytes: int64 [samples]."""


@dataclass(frozen=True)
class Index:
    """The keys of the samples in one tar, and the places of their members."""

    keys: np.ndarray
    """The key of each sample as a number: int64 [samples]."""
    components: Mapping[str, Component]
    """The components of the samples, in the order of the tar: extension -> component."""


def format_index(index: Index) -> str:
    """Return the text of an index file. It is the text that DALI's program wds2idx writes."""
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
    """Parse the text of an index file. All samples must have the same components.

    Args:
        text: The text of the index file.
        path: The path of the index file, for error messages.

    Raises:
        UserError: A line is malformed, there are too few or too many lines, or the samples have
            different components. The message names `path` and the line.
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
        # If the parsed index gives the same text, everything between the numbers is right too.
        if format_index(index) == text:
            return index
    raise UserError(f"{path}, {_first_wrong_line(rest, extensions)}")


def _numbers(text: str) -> np.ndarray:
    """Return all numbers in a text as int64 [n], or an empty array if a number is malformed."""
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
