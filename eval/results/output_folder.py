"""Output folders. A folder appears complete or not at all, and replaces only an earlier output."""

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
TABLE_FILES = "table.md", "table.csv", "table.tex"
EARLIER_FILE = "table.json"
"""File that earlier versions wrote. A folder that holds this file may be replaced."""
HISTOGRAM_FILE, ROC_FILE = "histogram.png", "roc.png"
FIGURE_2_FILE, FIGURE_3_FILE = "fig2.png", "fig3.png"
REPORT_FILE = "report.html"
OUTLIERS_FILE = "outliers.png"
"""Contact sheet of the synthetic outliers."""
SCORES_FOLDER = "scores"
SCORES_FILE, UNREADABLE_FILE = "scores.csv", "unreadable.csv"
"""Files that a scoring with --images writes."""


@dataclass(frozen=True)
class Output:
    """A kind of output folder. Its file names show whether a folder is an earlier output."""

    option: str
    """Option of the command line that gives the folder."""
    kind: str
    """Name of the kind in error messages."""
    names: frozenset[str]
    """Names of all files and folders that may be in an output folder of this kind."""
    always: str
    """Name of a file that every complete output folder of this kind has."""


SCORING = Output(
    "--out",
    "scoring",
    frozenset(
        {
            *(RESULTS_FILE, *TABLE_FILES, HISTOGRAM_FILE, ROC_FILE, REPORT_FILE, OUTLIERS_FILE),
            *(SCORES_FOLDER, SCORES_FILE, UNREADABLE_FILE, EARLIER_FILE),
        }
    ),
    always=RESULTS_FILE,
)
COMPARISON = Output(
    "OUT",
    "comparison",
    frozenset({FIGURE_2_FILE, FIGURE_3_FILE, *TABLE_FILES, EARLIER_FILE}),
    always=FIGURE_3_FILE,
)


def check_replaceable(out: Path, output: Output = SCORING) -> None:
    """Refuse an output folder that cannot be written, or that holds anything but an earlier output.

    Raises:
        UserError: `out` is a file, a folder with other content or a mount point, or no folder can
            be made in its place.
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
    # Writing is tried, because permissions do not show that a file system is read-only.
    there = next((folder for folder in out.resolve().parents if folder.exists()), out)
    try:
        with TemporaryDirectory(prefix=f".{out.name}.trial-", dir=there):
            pass
    except OSError as error:
        raise UserError(f"{said}: {there} cannot be written ({error.strerror})") from error


@contextmanager
def complete_folder(out: Path, output: Output = SCORING) -> Iterator[Path]:
    """Yield a new folder to write into, which becomes `out` when the `with` block succeeds.

    The new folder lies beside `out`. If the block raises, the new folder is removed and `out` stays
    as it was. If the block succeeds but the new folder cannot become `out`, the new folder is kept
    under another name. The error tells this name.

    Args:
        out: the output folder.
        output: kind of the output folder. `check_replaceable` is called again just before `out` is
            replaced.

    Raises:
        UserError: see `check_replaceable`. Also raised if the system refuses to replace `out`.
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
        if not partial.exists():  # it has become `out`, and only the sync to disk failed
            raise
        kept = partial.with_name(f"{out.name}.not-published-{os.getpid()}")
        partial.rename(kept)
        raise UserError(f"{error}; what was made is in {kept}") from error
    shutil.rmtree(replaced, ignore_errors=True)
