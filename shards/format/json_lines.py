"""Lists as files of JSON lines: one value a line, such as the names of a set's samples.

Files that are written here are ASCII, so that any file name (line breaks, bytes that are not UTF-8)
is read back unchanged.
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
    """A list that is written some values at a time. A list without values leaves no file."""

    def __init__(self, path: Path) -> None:
        """Create the file `path`, which must not exist."""
        self._path = path
        self._out = open(path, "xb")
        self._sha256 = hashlib.sha256()

    def add(self, values: Sequence[object]) -> None:
        """Append a line for each value."""
        lines = json_lines(values)
        with naming(self._path):
            self._out.write(lines)
        self._sha256.update(lines)

    def finish(self) -> str:
        """Wait until all is on the disk, and return the sha256; "" when there was no value."""
        sync_file(self._out)
        self._out.close()
        if os.path.getsize(self._path):
            return self._sha256.hexdigest()
        os.unlink(self._path)
        return ""


def json_lines(values: Sequence[object]) -> bytes:
    """Return one line of JSON for each value."""
    if all(isinstance(value, str) for value in values):
        # One call for all of them, because there may be a million names.
        text = json.dumps(values, separators=("\n", ":"))[1:-1]
    else:
        text = "\n".join(json.dumps(value) for value in values)
    return (text + "\n").encode("ascii") if text else b""


def read_json_lines(path: Path, kind: type[Value], most: int | None = None) -> list[Value]:
    """Return the values of a list, or its first `most` values.

    Raises:
        UserError: A line is not JSON, or its value is not a `kind`.
    """
    with open(path, "rb") as file:
        lines = itertools.islice(file, most)
        return parse_json_lines(
            path, lines, lambda value: isinstance(value, kind), f"a {kind.__name__}"
        )


def parse_json_lines(
    path: Path, lines: Iterable[bytes], accepts: Callable[[Any], bool], expected: str
) -> list[Any]:
    """Return the value of each line.

    Args:
        path: The file of the lines, for messages.
        lines: The lines, with or without their ends.
        accepts: Returns True if a value is one that such a file may hold.
        expected: A description of the accepted values, for messages.

    Raises:
        UserError: A line (the message has its number) is not JSON, or its value is not accepted.
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
