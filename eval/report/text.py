"""Texts of the report, except its findings (`findings.py`)."""

from __future__ import annotations

import math

from eval.audits.headline_probes import Probes
from eval.intervals import Interval, share_interval
from eval.results.ensemble_facts import EnsembleFacts
from eval.results.scoring import Scoring
from eval.results.tables import SYNTHETIC
from eval.sets.opening import ALL, FAR, MEAN, NEAR

DECIMALS = 2
"""Default number of decimals of percentages, as in the tables of the paper."""


def percent(rate: float, decimals: int = DECIMALS) -> str:
    """Return a rate in [0, 1] as a percentage, without the % sign."""
    return f"{100 * rate:.{decimals}f}"


def between(rate: Interval, decimals: int = DECIMALS) -> str:
    """Return both ends of an interval as percentages, without the % sign."""
    return f"{percent(rate.low, decimals)}\N{EN DASH}{percent(rate.high, decimals)}"


def meaning(scoring: Scoring) -> str:
    """Return a sentence that says what the headline means."""
    names = scoring.ood_names
    mean = scoring.headline_columns[MEAN].auroc.value
    image = f"An image of {names[0]}" if len(names) == 1 else "An OOD image"
    over = "" if len(names) == 1 else f", on average over {len(names)} OOD sets"
    return (
        f"{image} gets a higher score than an in-distribution test image {percent(mean, 1)} times "
        f"in 100{over}. Equal scores count half; 50 would be chance."
    )


def sight_rows(facts: EnsembleFacts | None) -> list[tuple[str, Interval, float, str]]:
    """Return a row for each family of synthetic outliers. Empty if there is no ensemble.

    Returns:
        Name of the family, AUROC of the ensemble, AUROC of the member that sees the family best,
        and the label of that member.
    """
    if facts is None:
        return []
    rows = []
    for family, auroc in facts.sight.items():
        of_members = facts.sight_of_members[family]
        best = max(of_members, key=lambda key: of_members[key])
        rows.append((family, auroc, of_members[best], facts.members[best].label))
    return rows


def column_label(column: str) -> str:
    """Return the header that the report shows for a column."""
    return {
        NEAR: "near, mean",
        FAR: "far, mean",
        MEAN: "mean of the sets",
        ALL: "all sets pooled",
        SYNTHETIC: "synthetic outliers",
    }.get(column, column)


def probe_facts(probes: Probes, tested: int) -> list[tuple[str, str]]:
    """Return the label and the value of each probe that was made.

    Args:
        probes: the probes.
        tested: number of in-distribution test images.
    """

    def share(accuracy: float) -> str:
        return f"{percent(accuracy)} ({between(share_interval(accuracy, tested))})"

    facts = [
        (f"k-NN accuracy of the test images' classes, {settings}, %", share(accuracy))
        for settings, accuracy in (probes.knn_accuracy or {}).items()
    ]
    if probes.linear_probe is not None:
        facts.append(("accuracy of a linear probe, %", share(probes.linear_probe)))
    if probes.occupied is not None:
        facts.append(
            ("soft classes in use", f"{probes.occupied.count:,} of {probes.occupied.of:,}")
        )
    facts.append(
        (
            "sensitivity: AUROC of test images against training images, %",
            f"{percent(probes.sensitivity.value)} ({between(probes.sensitivity)})",
        )
    )
    return facts


def provenance_facts(scoring: Scoring) -> list[tuple[str, str]]:
    """Return facts as (label, value): bank, checkpoint, features, settings and versions."""
    checkpoint = scoring.provenance.checkpoint
    facts = [
        ("bank", f"{scoring.provenance.bank_size:,} images"),
        ("tau", f"{scoring.tau:g}"),
    ]
    if checkpoint:
        facts.append(("checkpoint", f"step {checkpoint.step:,}, sha256 {checkpoint.sha256}"))
    facts += [
        (f"features of {method.label}", f"{method.feature_dim:,} numbers per image")
        for method in scoring.methods.values()
    ]
    shown = {**scoring.settings.to_json(), **scoring.versions}
    facts += [
        (name, ", ".join(map(str, value)) if isinstance(value, tuple) else str(value))
        for name, value in shown.items()
        if name != "training_command" and value not in (None, "")
    ]
    return facts


def score_text(score: float) -> str:
    """Return a score as text, with two decimals."""
    return f"{score:.2f}".replace("-", "\N{MINUS SIGN}") if math.isfinite(score) else str(score)
