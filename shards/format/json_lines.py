"""Lists in files of JSON lines, with one value per line, such as the names of a set's samples.

The files are written in ASCII. So every file name is read back unchanged, even if it contains line
breaks or bytes that are not UTF-8.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from shards.disk.file_system import naming
from shards.disk.publish import sync_file
from shards.errors import UserError

Value = TypeVar("Value")


class ListWriter:
    """A writer of a list file, which gets some values at a time. An empty list leaves no file."""

    def __init__(self, path: Path) -> None:
        """Create the file `path`, which must not exist yet."""
        self._path = path
        self._out = open(path, "xb")
        self._sha256 = hashlib.sha256()

    def add(self, values: Sequence[object]) -> None:
        """Append one line per value."""
        lines = json_lines(values)
        with naming(self._path):
            self._out.write(lines)
        self._sha256.update(lines)

    def finish(self) -> str:
        """Close the file when its content is on the disk.

        Returns:
            The SHA-256 digest of the file in hexadecimal. If no value was added, "", and the file
            is removed.
        """
        sync_file(self._out)
        self._out.close()
        if os.path.getsize(self._path):
            return self._sha256.hexdigest()
        os.unlink(self._path)
        return ""


def json_lines(values: Sequence[object]) -> bytes:
    """Return the content of a list file: one line of JSON per value, in ASCII."""
    if all(isinstance(value, str) for value in values):
        # One call of `json.dumps` writes all names, because there may be a million.
        text = json.dumps(values, separators=("\n", ":"))[1:-1]
    else:
        text = "\n".join(json.dumps(value) for value in values)
    return (text + "\n").encode("ascii") if text else b""


def read_json_lines(path: Path, kind: type[Value], most: int | None = None) -> list[Value]:
    """Return the values in a list file.

    Args:
        path: The list file.
        kind: The type that all values must have.
        most: The largest number of values to read, from the start. None means all values.

    Raises:
        UserError: A line is not JSON, or a value does not have the type `kind`.
    """
    with open(path, "rb") as file:
        lines = itertools.islice(file, most)
        return parse_json_lines(
            path, lines, lambda value: isinstance(value, kind), f"a {kind.__name__}"
        )


def parse_json_lines(
    path: Path, lines: Iterable[bytes], accepts: Callable[[Any], bool], expected: str
) -> list[Any]:
    """Parse lines of JSON and return the value of each line.

    Args:
        path: The path of the file, for error messages.
        lines: The lines of the file, with or without line breaks at their ends.
        accepts: A function that returns True if a value is allowed in the file.
        expected: A description of the allowed values, for error messages.

    Raises:
        UserError: A line is not JSON, or its value is not allowed. The message has the number of
            the line.
    """
    values = []
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not accepts(value):
            raise UserError(f"{path}, line {number}: {line[:80]!r}, expected {expected}")
        values.append(value)
    return values
