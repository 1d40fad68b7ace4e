"""An output folder appears complete or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from shards.cli import UserError
from shards.disk import sync

RESULTS_FILE = "results.json"
TABLE_FILES = "table.md", "table.csv", "table.json", "table.tex"
HISTOGRAM_FILE, ROC_FILE = "histogram.png", "roc.png"
REPORT_FILE = "report.html"
SCORES_FOLDER = "scores"
SCORES_FILE, UNREADABLE_FILE = "scores.csv", "unreadable.csv"
"""Of one's own images."""
OWN_NAMES = frozenset(
    {
        *(RESULTS_FILE, *TABLE_FILES, HISTOGRAM_FILE, ROC_FILE, REPORT_FILE),
        *(SCORES_FOLDER, SCORES_FILE, UNREADABLE_FILE),
    }
)


def check_replaceable(out: Path) -> None:
    """Refuse an output folder that holds anything but an earlier scoring, or cannot be written.

    Raises:
        UserError: `out` is a file, or a folder with other content than a scoring's, or the folder
            that it is to be in takes no new one.
    """
    _check_writable(out)
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"--out {out}: is not a folder")
    held = {entry.name for entry in out.iterdir()}
    foreign = sorted(held - OWN_NAMES)
    if foreign:
        raise UserError(f"--out {out}: holds {foreign[0]!r}, which no scoring wrote; not replaced")
    if held and RESULTS_FILE not in held:
        raise UserError(f"--out {out}: is not empty and has no {RESULTS_FILE}; not replaced")


def _check_writable(out: Path) -> None:
    """By trying: permissions do not tell of a file system that may only be read."""
    there = next((folder for folder in out.resolve().parents if folder.exists()), out)
    try:
        with TemporaryDirectory(prefix=f".{out.name}.trial-", dir=there):
            pass
    except OSError as error:
        raise UserError(f"--out {out}: {there} cannot be written ({error.strerror})") from error


@contextmanager
def complete_folder(out: Path, check: Callable[[Path], None] = check_replaceable) -> Iterator[Path]:
    """A new folder beside `out` to write into; it becomes `out` when the block ends well.

    If the block raises, the new folder is removed and what `out` held stays as it was.

    Args:
        out: the folder.
        check: refuses what must not be replaced; called just before the replacement.

    Raises:
        UserError: see `check`.
    """
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    replaced = out.with_name(f".{out.name}.replaced-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for path in [*partial.rglob("*"), partial]:
            sync(path)
        check(out)
        if out.exists():
            out.rename(replaced)
        try:
            partial.rename(out)
        except OSError:
            if replaced.exists():
                replaced.rename(out)
            raise
        sync(out.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if out.exists():
            shutil.rmtree(replaced, ignore_errors=True)
