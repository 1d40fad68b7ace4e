"""What speaks against the headline of a scoring, the weightiest first, and what was looked at.

A reader must be able to trust each line: what nobody looked at is told as that, never as clean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eval.audits.sample_sizes import sizes_that_say_little
from eval.audits.shortcuts import CHANCE, tell_apart
from eval.report.text import between, headline_columns, ood_names, percent
from eval.scores.all_scores import HEADLINE, label_of
from eval.sets.opening import MEAN, TEST
from shards.errors import few
from train.watch.collapse import looked_for_collapse

NAMED_SETS = 3


@dataclass
class Findings:
    """Lines without a full stop."""

    warnings: list[str] = field(default_factory=list)
    """What must be known before the headline is believed."""
    notes: list[str] = field(default_factory=list)
    """What weighs less, and what nobody looked at."""
    clean: list[str] = field(default_factory=list)
    """What was looked at, and found to be in order."""


def findings(
    results: Mapping[str, Any],
    reports: Sequence[Mapping[str, Any]] = (),
    unseen_steps: int | None = None,
) -> Findings:
    """All that is to be said of a headline.

    Args:
        results: see `eval.results.collect.collect`.
        reports: lines of the run's metrics.jsonl.
        unseen_steps: see `train.watch.collapse.looks_after_step`; None if it is not known.
    """
    found = Findings()
    hopeless, little = sizes_that_say_little(results["counts"], results.get("equal_images", ()))
    found.warnings += hopeless
    found.notes += little
    _add_sets(found, results)
    _add_training(found, results, reports, unseen_steps)
    _add_chance(found, results)
    _add_networks(found, results)
    _add_shortcuts(found, results, bool(hopeless))
    found.warnings += _stored_otherwise(results)
    found.warnings += _understood_otherwise(results)
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


def _add_sets(found: Findings, results: Mapping[str, Any]) -> None:
    """What sets share, and whether the bank is what was trained on."""
    overlap = results.get("overlap")
    shared = {sets: count for sets, count in (overlap or {}).items() if count}
    found.warnings += [f"{count:,} images are in both {sets}" for sets, count in shared.items()]
    if results.get("checkpoint") and not results["bank_is_training_set"]:
        found.warnings.append("The bank is not the set that the run was trained on")
    of_images = bool(results["manifests"])
    if overlap is None:
        found.notes.append("Nobody looked whether sets share images")
    elif not shared:
        what = "image, pixel by pixel," if of_images else "row of features, number by number,"
        found.clean.append(f"no {what} of bank or test set is in another set")
    if not of_images:
        found.notes.append(
            "Only features were there: nobody looked at images that sets share, nor at trivial "
            "statistics of images"
        )
    elif overlap is not None:
        found.notes.append(
            "Nobody looked for copies that were stored in another way: python -m shards.overlap "
            "does"
        )


def _add_training(
    found: Findings,
    results: Mapping[str, Any],
    reports: Sequence[Mapping[str, Any]],
    unseen_steps: int | None,
) -> None:
    """What the health monitor said, if it looked."""
    if not results.get("checkpoint"):
        return
    warned = health(reports)
    found.warnings += [f"Training, {line}" for line in warned]
    if not reports or unseen_steps is None:
        found.notes.append("The run has no reports of its training: nobody knows how it went")
        return
    looked = looked_for_collapse(unseen_steps, reports[-1]["step"])
    if reports[-1]["step"] <= unseen_steps:
        found.notes.append(looked)
    elif not warned:
        found.clean.append(
            f"the health monitor, which looked after step {unseen_steps:,}, had no warnings"
        )


def _add_chance(found: Findings, results: Mapping[str, Any]) -> None:
    """Sets on which the headline is below chance, or may be at chance."""
    in_doubt = []
    for name in ood_names(results):
        auroc = headline_columns(results)[name]["auroc"]
        value = f"{percent(auroc['value'], 1)} %"
        if auroc["high"] < CHANCE:
            found.warnings.append(
                f"The AUROC of {name} is {value}, below chance: its images look more like the "
                "training images than the in-distribution test images do"
            )
        elif auroc["low"] <= CHANCE:
            in_doubt.append(f"{name} {value} ({between(auroc, 1)})")
    if in_doubt:
        found.warnings.append(
            f"AUROC that may be chance, 50 % being in the interval: {few(in_doubt, NAMED_SETS)}"
        )


def _add_networks(found: Findings, results: Mapping[str, Any]) -> None:
    """Other networks, and other scores, that are at least as good: on average, or on some sets."""
    own, names = headline_columns(results), ood_names(results)
    what = "mean AUROC" if len(names) > 1 else "AUROC"
    own_mean = own[MEAN]["auroc"]["value"]
    all_networks_are_worse = True
    for key, method in results["methods"].items():
        is_own = key == results["headline"]
        scores = {s: c for s, c in method["scores"].items() if not (is_own and s == HEADLINE)}
        if not scores:
            continue
        best = max(scores, key=lambda score: scores[score][MEAN]["auroc"]["value"])
        mean = scores[best][MEAN]["auroc"]["value"]
        sets = [
            name
            for name in names
            if any(
                c[name]["auroc"]["value"] >= own[name]["auroc"]["value"] for c in scores.values()
            )
        ]
        is_worse = mean < own_mean
        all_networks_are_worse &= is_worse or is_own
        if is_own and mean <= own_mean:
            found.clean.append(f"no other score of {method['label']} has a higher {what}")
        elif is_own:
            is_sure = scores[best][MEAN]["auroc"]["low"] > own[MEAN]["auroc"]["high"]
            (found.warnings if is_sure else found.notes).append(
                f"{method['label']} is better by another score: its {what} is {percent(mean)} % by "
                f"{label_of(best)}, the headline's {percent(own_mean)} % by {label_of(HEADLINE)}"
            )
        elif not is_worse:
            found.warnings.append(
                f"{method['label']} is {'better' if mean > own_mean else 'as good'}: its {what} is "
                f"{percent(mean)} % by {label_of(best)}, the headline's {percent(own_mean)} %"
            )
        elif sets:
            by = few([label_of(s) for s in scores if _is_as_good(scores[s], own, sets)], NAMED_SETS)
            found.notes.append(
                f"{method['label']} is at least as good on {few(sets, NAMED_SETS)}, by {by}"
            )
    others = len(results["methods"]) - 1
    if not others:
        found.notes.append("No other network was scored to hold it against; --baselines adds two")
    elif all_networks_are_worse:
        found.clean.append(f"no other network has as high a {what}, by any of its scores")


def _is_as_good(columns: Mapping[str, Any], own: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Whether a score is as good as the headline on one of the sets."""
    return any(columns[n]["auroc"]["value"] >= own[n]["auroc"]["value"] for n in names)


def _add_shortcuts(found: Findings, results: Mapping[str, Any], hopeless: bool) -> None:
    """Trivial statistics that tell sets apart; of `hopeless` sizes none can be called clean."""
    shortcuts = results.get("shortcuts")
    if shortcuts is None:
        if results["manifests"]:
            found.notes.append("Nobody looked at trivial statistics of the images")
        return
    own = {name: headline_columns(results)[name]["auroc"]["value"] for name in ood_names(results)}
    told = tell_apart(shortcuts, own)
    found.warnings += [one.text for one in told if one.weighs]
    found.notes += [one.text for one in told if not one.weighs]
    unseen = [name for name in own if not shortcuts.get(name)]
    if unseen:
        found.notes.append(f"Nobody looked at trivial statistics of {few(unseen, NAMED_SETS)}")
    elif not (told or hopeless):
        found.clean.append("no trivial statistic of the table below tells a set apart")


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


def _understood_otherwise(results: Mapping[str, Any]) -> list[str]:
    """A line for each OOD set whose files were understood by another rule than the test set's."""
    found = []
    for key, what in (("background", "transparent images"), ("intensity", "more than 8 bits")):
        own = results["manifests"].get(TEST, {}).get(key)
        for name in ood_names(results):
            its = results["manifests"].get(name, {}).get(key)
            # A set of pixels has no background, so a missing one tells nothing.
            if own != its and (key == "intensity" or (own and its)):
                found.append(
                    f"{name} was built with {key} {its or 'not given'} ({what}), the "
                    f"in-distribution test set with {own or 'not given'}: that alone may tell them "
                    "apart"
                )
    return found


def _stored(manifest: Mapping[str, Any]) -> str:
    """What was done to pixels; PNG keeps them as raw images do."""
    rule = manifest["resize"]
    resized = "not resized" if rule == "none" else f"resized by {rule}"
    return resized + (" and stored as JPEG" if manifest["encoding"] == "jpg" else "")
