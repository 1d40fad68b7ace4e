"""The section of a run's README.md that says what the detector of the run sees.

A training has no held-out images, so the section comes with the first scoring. Each scoring
replaces it, and so does a training that goes on, because it writes the whole file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eval.ensemble.sight import in_words, useless
from eval.intervals import Interval
from shards.disk.publish import replace_file
from shards.terminal import printing
from train.run_folder import README

HEADING = "## What its detector sees"
NEXT_HEADING = "\n## "


def note_sight(
    run: Path, sight: Mapping[str, Interval], score: str, step: int, *, bank: Path, test: Path
) -> None:
    """Write what a detector sees into README.md in the folder of its run.

    The section stands at the end, or where an earlier scoring wrote it; other sections stay.
    If the run has no README.md yet, or its folder cannot be written, a line on stderr says so.

    Args:
        run: folder of the run.
        sight: family of synthetic outliers -> AUROC of the detector.
        score: value of --score.
        step: step of the checkpoint.
        bank: folder of the bank.
        test: folder of the held-out normal images of which the outliers are made.
    """
    path = run / README
    about = f"Score: {score}; checkpoint: step {step:,}; bank: `{bank}`; held out: `{test}`."
    try:
        text = path.read_text(errors="surrogateescape")
        before, _, old = text.partition(f"{HEADING}\n")
        after = "".join(old.partition(NEXT_HEADING)[1:])
        lines = [before.rstrip("\n"), "", HEADING, "", *_section(sight, about), after]
        replace_file(path, ["\n".join(lines).encode(errors="surrogateescape")])
    except OSError as error:
        printing.tell(f"note: {path} does not say what the detector sees ({error.strerror})")


def _section(sight: Mapping[str, Interval], about: str) -> list[str]:
    if not sight:
        return [f"No synthetic outlier differs from its image. {about}"]
    warning = useless(sight)
    return [
        *([f"**{warning}.**", ""] if warning else []),
        f"AUROC in % on synthetic outliers: held-out normal images that were spoiled. {about}",
        "",
        "| family | AUROC | 95 % interval |",
        "|---|---:|---:|",
        *(
            f"| {name} | {100 * seen.value:.2f} | {100 * seen.low:.2f} to {100 * seen.high:.2f} |"
            for name, seen in sight.items()
        ),
        "",
        *(f"- {line}." for line in in_words(sight)),
    ]
