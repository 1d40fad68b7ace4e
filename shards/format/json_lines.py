"""The lists beside the tars of a set: files of JSON lines, one for each value.

ASCII only, so that any file name (line breaks, bytes that are not UTF-8) comes back as it was.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from shards.disk import naming, sync_file
from shards.errors import UserError

Value = TypeVar("Value")


class ListWriter:
    """A list that is written some values at a time; without any, there is no file."""

    def __init__(self, path: Path) -> None:
        """Of the new file `path`."""
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
        """Wait until all is on the disk, and return the digest; "" when there was no value."""
        sync_file(self._out)
        self._out.close()
        if os.path.getsize(self._path):
            return self._sha256.hexdigest()
        os.unlink(self._path)
        return ""


def json_lines(values: Sequence[object]) -> bytes:
    """One line of JSON for each value."""
    if all(isinstance(value, str) for value in values):
        # One call for all of them: there may be a million names.
        text = json.dumps(values, separators=("\n", ":"))[1:-1]
    else:
        text = "\n".join(json.dumps(value) for value in values)
    return (text + "\n").encode("ascii") if text else b""


def read_json_lines(path: Path, kind: type[Value], most: int | None = None) -> list[Value]:
    """The values of a list, or the first `most` of them.

    Raises:
        UserError: A line (the message has its number) is no JSON, or a value of another type.
    """
    values = []
    with open(path, "rb") as file:
        for number, line in enumerate(itertools.islice(file, most), start=1):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            if not isinstance(value, kind):
                raise UserError(f"{path}, line {number}: {line[:80]!r}, expected a {kind.__name__}")
            values.append(value)
    return values
