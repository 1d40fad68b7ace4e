"""What the report says in words, besides what speaks against it (`findings.py`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from eval.intervals import Interval, share_interval
from eval.scores.all_scores import HEADLINE
from eval.sets.opening import ALL, FAR, MEAN, NEAR

DECIMALS = 2
"""Of percentages, as the tables of the paper have them, or fewer."""


def percent(rate: float, decimals: int = DECIMALS) -> str:
    """A rate in [0, 1] in %, without its sign."""
    return f"{100 * rate:.{decimals}f}"


def between(metric: Interval, decimals: int = DECIMALS) -> str:
    """The ends of a metric's interval, in %."""
    return f"{percent(metric['low'], decimals)}\N{EN DASH}{percent(metric['high'], decimals)}"


def headline_columns(results: Mapping[str, Any]) -> Mapping[str, Any]:
    """Every column of the headline: its network's Eq. 6."""
    return results["methods"][results["headline"]]["scores"][HEADLINE]


def ood_names(results: Mapping[str, Any]) -> list[str]:
    """Names of the OOD sets, in the order of the table."""
    return [name for name in headline_columns(results) if name not in (NEAR, FAR, MEAN, ALL)]


def meaning(results: Mapping[str, Any]) -> str:
    """The headline as one sentence."""
    names = ood_names(results)
    mean = headline_columns(results)[MEAN]["auroc"]["value"]
    of = f"an image of {names[0]}" if len(names) == 1 else "an OOD image"
    over = "" if len(names) == 1 else f", on average over {len(names)} OOD sets"
    return (
        f"Of {of} and an in-distribution test image, the first gets the higher score "
        f"{percent(mean, 1)} times in 100{over}, equal scores counted half; 50 would be chance."
    )


def column_label(column: str) -> str:
    """What a reader sees of a column."""
    return {
        NEAR: "near, mean",
        FAR: "far, mean",
        MEAN: "mean of the sets",
        ALL: "all sets pooled",
    }.get(column, column)


def probe_facts(probes: Mapping[str, Any], tested: int) -> list[tuple[str, str]]:
    """What the probes found, those that were made: what it is, and its value.

    Args:
        probes: of results.json.
        tested: number of in-distribution test images.
    """

    def share(accuracy: float) -> str:
        return f"{percent(accuracy)} ({between(share_interval(accuracy, tested))})"

    facts = [
        (f"k-NN accuracy of the test images' classes, {settings}, %", share(accuracy))
        for settings, accuracy in probes.get("knn_accuracy", {}).items()
    ]
    if "linear_probe" in probes:
        facts.append(("accuracy of a linear probe, %", share(probes["linear_probe"])))
    if "occupied" in probes:
        occupied = probes["occupied"]
        facts.append(("soft classes in use", f"{occupied['count']:,} of {occupied['of']:,}"))
    if "sensitivity" in probes:
        found = probes["sensitivity"]
        facts.append(
            (
                "sensitivity: AUROC of test images against training images, %",
                f"{percent(found['value'])} ({between(found)})",
            )
        )
    return facts


def provenance(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the numbers are of, besides the sets: what it is, and its value."""
    checkpoint = results.get("checkpoint")
    facts = [("bank", f"{results['bank_size']:,} images"), ("tau", f"{results['tau']:g}")]
    if checkpoint:
        facts.append(("checkpoint", f"step {checkpoint['step']:,}, sha256 {checkpoint['sha256']}"))
    facts += [
        (f"features of {method['label']}", f"{method['feature_dim']:,} numbers an image")
        for method in results["methods"].values()
    ]
    shown = {**results["settings"], **results["versions"]}
    facts += [
        (name, str(value))
        for name, value in shown.items()
        if name != "training_command" and value not in (None, "")
    ]
    return facts


def score_text(score: float) -> str:
    """A score in few digits."""
    return f"{score:.2f}".replace("-", "\N{MINUS SIGN}") if math.isfinite(score) else str(score)
