"""An output folder appears complete or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from shards.disk.publish import partial_folder, publish_folder
from shards.errors import UserError

RESULTS_FILE = "results.json"
TABLE_FILES = "table.md", "table.csv", "table.json", "table.tex"
HISTOGRAM_FILE, ROC_FILE = "histogram.png", "roc.png"
REPORT_FILE = "report.html"
SCORES_FOLDER = "scores"
SCORES_FILE, UNREADABLE_FILE = "scores.csv", "unreadable.csv"
"""Of one's own images."""


@dataclass(frozen=True)
class Output:
    """What a command makes of an output folder, by which an earlier one is known."""

    option: str
    """How the command line calls the folder."""
    kind: str
    """What it is, in errors."""
    names: frozenset[str]
    """What may be in it."""
    always: str
    """The name that no complete one lacks."""


SCORING = Output(
    "--out",
    "scoring",
    frozenset(
        {
            *(RESULTS_FILE, *TABLE_FILES, HISTOGRAM_FILE, ROC_FILE, REPORT_FILE),
            *(SCORES_FOLDER, SCORES_FILE, UNREADABLE_FILE),
        }
    ),
    always=RESULTS_FILE,
)


def check_replaceable(out: Path, output: Output = SCORING) -> None:
    """Refuse an output folder that holds anything but an earlier output, or cannot be written.

    Raises:
        UserError: `out` is a file, or a folder with other content, or the folder that it is to be
            in takes no new one.
    """
    said = f"{output.option} {out}"
    _check_writable(out, said)
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{said}: is not a folder")
    if out.is_mount():
        raise UserError(f"{said}: a file system is mounted there; name a folder in it")
    held = {entry.name for entry in out.iterdir()}
    foreign = sorted(held - output.names)
    if foreign:
        raise UserError(f"{said}: holds {foreign[0]!r}, which no {output.kind} wrote; not replaced")
    if held and output.always not in held:
        raise UserError(f"{said}: is not empty and has no {output.always}; not replaced")


def _check_writable(out: Path, said: str) -> None:
    """By trying: permissions do not tell of a file system that may only be read."""
    there = next((folder for folder in out.resolve().parents if folder.exists()), out)
    try:
        with TemporaryDirectory(prefix=f".{out.name}.trial-", dir=there):
            pass
    except OSError as error:
        raise UserError(f"{said}: {there} cannot be written ({error.strerror})") from error


@contextmanager
def complete_folder(out: Path, output: Output = SCORING) -> Iterator[Path]:
    """A new folder beside `out` to write into; it becomes `out` when the block ends well.

    If the block raises, the new folder is removed and what `out` held stays as it was. If it cannot
    become `out` once all is computed, it is left under its own name, which the error tells.

    Args:
        out: the folder.
        output: what it becomes; `check_replaceable` is asked again just before the replacement.

    Raises:
        UserError: see `check_replaceable`; or the system refuses to replace `out`.
    """
    out = out.resolve()
    with partial_folder(out) as partial:
        yield partial
    replaced = out.with_name(f".{out.name}.replaced-{os.getpid()}")
    try:
        check_replaceable(out, output)
        publish_folder(partial, out, replaced)
    except KeyboardInterrupt:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except (OSError, UserError) as error:
        if not partial.exists():  # it became `out`, whose name could not be synced
            raise
        kept = partial.with_name(f"{out.name}.not-published-{os.getpid()}")
        partial.rename(kept)
        raise UserError(f"{error}; what was made is in {kept}") from error
    shutil.rmtree(replaced, ignore_errors=True)
