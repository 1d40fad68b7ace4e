"""What the report says in words: its headline, and everything that speaks against it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from eval.intervals import Interval
from eval.scores import HEADLINE
from eval.sets import ALL, FAR, MEAN, NEAR, TEST
from eval.shortcuts import CHANCE, tell_apart
from shards.cli import few

DECIMALS = 2
"""Of percentages, as the tables of the paper have them, or fewer."""
NAMED_SETS = 3


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
        f"{percent(mean, 1)} times in 100{over}; 50 would be chance."
    )


def warnings(results: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Everything that a reader must know before believing the headline; empty: nothing.

    Args:
        results: see `eval.results.collect`.
        reports: lines of the run's metrics.jsonl.
    """
    own = {name: headline_columns(results)[name]["auroc"]["value"] for name in ood_names(results)}
    return [
        *_wrong_way(own),
        *_better_networks(results),
        *tell_apart(results.get("shortcuts", {}), own),
        *[f"Training, {line}" for line in health(reports)],
        *_sets(results),
        *_stored_otherwise(results),
    ]


def _wrong_way(own: Mapping[str, float]) -> list[str]:
    return [
        f"The AUROC of {name} is {percent(value, 1)} %, below chance: its images look more like "
        "the training images than the in-distribution test images do"
        for name, value in own.items()
        if value < CHANCE
    ]


def _better_networks(results: Mapping[str, Any]) -> list[str]:
    """Networks whose Eq. 6 is at least as good: on average, or on some sets."""
    own = headline_columns(results)
    found = []
    for key, method in results["methods"].items():
        if key == results["headline"] or HEADLINE not in method["scores"]:
            continue
        theirs = method["scores"][HEADLINE]
        better = [
            name
            for name in ood_names(results)
            if theirs[name]["auroc"]["value"] >= own[name]["auroc"]["value"]
        ]
        mean, own_mean = (columns[MEAN]["auroc"]["value"] for columns in (theirs, own))
        if mean >= own_mean:
            found.append(
                f"{method['label']} is at least as good: its mean AUROC is {percent(mean)} %, the "
                f"headline's {percent(own_mean)} %"
            )
        elif better:
            found.append(f"{method['label']} is at least as good on {few(better, NAMED_SETS)}")
    return found


def health(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line a kind of warning of the health monitor, in the words of its last."""
    lines = []
    kinds = dict.fromkeys(kind for report in reports for kind in report.get("warnings", {}))
    for kind in kinds:
        told = [report for report in reports if kind in report.get("warnings", {})]
        steps = f"step {told[0]['step']:,}"
        if len(told) > 1:
            steps = f"{len(told)} reports from {steps} to {told[-1]['step']:,}"
        lines.append(f"{kind} ({steps}): {told[-1]['warnings'][kind]}")
    return lines


def _sets(results: Mapping[str, Any]) -> list[str]:
    found = [
        f"{count:,} images are in both {sets}"
        for sets, count in results.get("overlap", {}).items()
        if count
    ]
    if results.get("checkpoint") and not results["bank_is_training_set"]:
        found.append("The bank is not the set that the run was trained on")
    if not results["manifests"]:
        found.append(
            "Only features were there: whether sets share images with other features, or can be "
            "told apart by trivial statistics, is not known"
        )
    return found


def _stored_otherwise(results: Mapping[str, Any]) -> list[str]:
    """A line for each way in which pixels of OOD sets came to be, if not those of the test set."""
    if not results["manifests"]:
        return []
    own = _stored(results["manifests"][TEST])
    others: dict[str, list[str]] = {}
    for name in ood_names(results):
        others.setdefault(_stored(results["manifests"][name]), []).append(name)
    return [
        f"Images of {few(names, NAMED_SETS)} are {how}, in-distribution test images {own}: that "
        "alone may tell them apart"
        for how, names in others.items()
        if how != own
    ]


def _stored(manifest: Mapping[str, Any]) -> str:
    """What was done to pixels; PNG keeps them as raw images do."""
    rule = manifest["resize"]
    resized = "not resized" if rule == "none" else f"resized by {rule}"
    return resized + (" and stored as JPEG" if manifest["encoding"] == "jpg" else "")


def column_label(column: str) -> str:
    """What a reader sees of a column."""
    return {
        NEAR: "near, mean",
        FAR: "far, mean",
        MEAN: "mean of the sets",
        ALL: "all sets pooled",
    }.get(column, column)


def probe_facts(probes: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the probes found, those that were made: what it is, and its value."""
    facts = [
        (f"k-NN accuracy of the test images' classes, {settings}, %", percent(accuracy))
        for settings, accuracy in probes.get("knn_accuracy", {}).items()
    ]
    if "linear_probe" in probes:
        facts.append(("accuracy of a linear probe, %", percent(probes["linear_probe"])))
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
