"""Verdicts on single images (score, p-value and decision), and their output as CSV and as text.

This file needs neither torch nor DALI. An exported ONNX file is used without them, and has to give
the same verdicts as the run.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.decisions.conformal import Calibration, check_fpr, rate_of_one_set
from eval.decisions.images import Read, read_chunks
from shards.errors import UserError, few, printable
from shards.pixels.target import Target

MOST_SHOWN = 10
"""Largest number of images that the summary lists."""


@dataclass(frozen=True)
class Scored:
    """The scores of n images."""

    score: NDArray[np.floating]
    """[n]. A higher score means more OOD. NaN or Inf for an image that has no score."""
    member: Sequence[str]
    """Key of the member of the detector that adds most to each score, [n]."""


@dataclass(frozen=True)
class Verdicts:
    """Verdicts on N images, in the order in which the images were given."""

    score: NDArray[np.float64]
    """Scores, [N]. A higher score means more OOD. NaN for an image that cannot be read."""
    p_value: NDArray[np.float64]
    """P-values, [N]: the probability that an in-distribution image has a score that is at least as
    high. NaN for an image that cannot be read."""
    is_ood: NDArray[np.bool_]
    """Decisions, [N]: True if the p-value is at most the false-positive rate. False for an image
    that cannot be read."""
    member: list[str]
    """Keys of the members of the detector that add most to the scores, [N], for example
    "histogram/knn-5". "" for an image that cannot be read."""
    errors: dict[int, str]
    """Number of each image that cannot be read -> the reason."""


def judge(
    reads: Sequence[Read],
    rule: Target,
    score: Callable[[NDArray[np.uint8]], Scored],
    calibration: Calibration,
    fpr: float,
    names: Sequence[str],
) -> Verdicts:
    """Score images, and decide for each image whether it is OOD.

    Args:
        reads: N functions. Each reads one image.
        rule: rule that turns an image into the pixels that `score` takes.
        score: function from images, uint8 [n, H, W, C], to their scores.
        calibration: scores of in-distribution images, computed with the same function.
        fpr: false-positive rate: the share of in-distribution images that may be called OOD.
        names: N names of the images, for error messages.

    Raises:
        UserError: the calibration set is too small for `fpr`, scores are not finite (the message
            names the images), or no image can be read.
    """
    check_fpr(fpr, len(calibration.scores))
    scores, members = np.full(len(reads), np.nan), [""] * len(reads)
    errors: dict[int, str] = {}
    for chunk in read_chunks(reads, rule):
        errors |= chunk.unreadable
        if chunk.numbers:
            found = score(chunk.pixels)
            scores[chunk.numbers] = found.score
            for number, member in zip(chunk.numbers, found.member, strict=True):
                members[number] = member
            bad = [number for number in chunk.numbers if not np.isfinite(scores[number])]
            if bad:
                called = few([names[i] for i in bad])
                raise UserError(
                    f"images: {len(bad)} scores are not finite, of {called}; leave these out, or "
                    "look at what the network makes of them"
                )
    if len(errors) == len(reads):
        what = f"the first {errors[0]}" if errors else "there is none"
        raise UserError(f"images: none of {len(reads)} can be read; {what}")
    p_values = calibration.p_values(scores)
    return Verdicts(scores, p_values, p_values <= fpr, members, errors)


def scores_csv(names: Sequence[str], verdicts: Verdicts) -> bytes:
    """Return the CSV file of the verdicts: a line `file,score,p_value,is_ood,member` per image.

    The images are in the given order. Images that cannot be read are left out. Numbers are written
    with all their digits.
    """
    columns = verdicts.score.tolist(), verdicts.p_value.tolist(), verdicts.is_ood.tolist()
    rows = enumerate(zip(names, *columns, verdicts.member, strict=True))
    return _csv(
        ("file", "score", "p_value", "is_ood", "member"),
        (
            (name, score, p_value, int(is_ood), member)
            for number, (name, score, p_value, is_ood, member) in rows
            if number not in verdicts.errors
        ),
    )


def unreadable_csv(names: Sequence[str], verdicts: Verdicts) -> bytes:
    """Return the CSV file of the images that cannot be read: one line `file,reason` per image."""
    return _csv(
        ("file", "reason"), ((names[number], why) for number, why in verdicts.errors.items())
    )


def summary(names: Sequence[str], verdicts: Verdicts, calibrated_on: int, fpr: float) -> str:
    """Return a summary of a few lines, for a terminal.

    Args:
        names: names of the images.
        verdicts: verdicts on these images.
        calibrated_on: number of calibration images.
        fpr: false-positive rate of the decisions.
    """
    scored = len(names) - len(verdicts.errors)
    mean, deviation = rate_of_one_set(fpr, calibrated_on)
    lines = [
        f"{int(verdicts.is_ood.sum()):,} of {scored:,} images are called OOD at a false-positive "
        f"rate of {100 * fpr:g} % (calibrated on {calibrated_on:,} images; of normal images like "
        f"these {100 * mean:.3g} % would be on average over such calibration sets, with a standard "
        f"deviation of {100 * deviation:.2g} points).",
        f"{'p-value':>8} {'score':>9}  the most unusual",
    ]
    order = np.argsort(-verdicts.score, kind="stable")  # NaN comes last
    for number in order[: min(MOST_SHOWN, scored)]:
        mark = "*" if verdicts.is_ood[number] else " "
        numbers = f"{verdicts.p_value[number]:8.4f} {verdicts.score[number]:9.3f}"
        lines.append(f"{numbers} {mark}{printable(names[number])}")
    if verdicts.errors:
        lines.append(f"{len(verdicts.errors):,} files cannot be read:")
    lines += [f"  {printable(names[i])}: {printable(why)}" for i, why in verdicts.errors.items()]
    return "\n".join(lines)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return a CSV file as bytes. All texts are quoted.

    Bytes in file names that are not UTF-8 are kept.
    """
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    text.write(",".join(header) + "\n")
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")
