"""Exclusion lists: the images of a source that a set leaves out.

A list is a file of JSON lines, `{"name": <name in the source>, ...}`. Other keys, such as the
reason, are for people and are not read.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from shards.disk.reading import read_text
from shards.errors import UserError
from shards.format.json_lines import parse_json_lines


def read_exclusions(path: Path) -> tuple[set[str], str]:
    """Return the names on a list, and the sha256 of the file (which may be a pipe).

    Raises:
        UserError: The file cannot be read, or a line (the message has its number) has no name.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    entries = parse_json_lines(path, text.splitlines(), _has_name, '{"name": ...}')
    return {entry["name"] for entry in entries}, hashlib.sha256(text).hexdigest()


def _has_name(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str)
