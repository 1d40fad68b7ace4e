"""Exclusion lists: which images of a source a set leaves out.

JSON lines, `{"name": <name in the source>, ...}`; what else a line says (why) is for people.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from shards.disk import read_text
from shards.errors import UserError


def read_exclusions(path: Path) -> tuple[set[str], str]:
    """The names on a list, and its sha256.

    Raises:
        UserError: it is missing or no list, or a line (the message has its number) has no name.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    names = set()
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            name = json.loads(line)["name"]
        except (ValueError, TypeError, KeyError, RecursionError):
            name = None
        if not isinstance(name, str):
            raise UserError(f'{path}, line {number}: {line[:80]!r}, expected {{"name": ...}}')
        names.add(name)
    return names, hashlib.sha256(text).hexdigest()
