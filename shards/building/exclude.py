"""Exclusion lists: files that name the images of a source that a set leaves out.

Each line of a list is a JSON object, `{"name": <name in the source>, ...}`. Other keys, such as a
reason, may be there for human readers; they are ignored.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from shards.disk.reading import read_text
from shards.errors import UserError
from shards.format.json_lines import parse_json_lines


def read_exclusions(path: Path) -> tuple[set[str], str]:
    """Read an exclusion list. The file may also be a pipe, because it is read only once.

    Returns:
        The names on the list, and the sha256 of the file.

    Raises:
        UserError: The file cannot be read, or a line has no name. The message gives the number of
            the line.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    entries = parse_json_lines(path, text.splitlines(), _has_name, '{"name": ...}')
    return {entry["name"] for entry in entries}, hashlib.sha256(text).hexdigest()


def _has_name(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str)
