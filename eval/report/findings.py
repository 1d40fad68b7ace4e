"""Findings of a report: facts that speak against the headline, and the results of other checks.

A reader must be able to trust each line. If something was not checked, the report says that it was
not checked, and does not count it as clean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eval.audits.sample_sizes import sizes_that_say_little
from eval.audits.shortcuts import CHANCE, tell_apart
from eval.ensemble.sight import in_words, useless
from eval.metrics import Metrics
from eval.report.set_differences import (
    NAMED_SETS,
    stored_otherwise,
    understood_otherwise,
)
from eval.report.text import between, percent
from eval.results.ensemble_facts import EnsembleFacts
from eval.results.scoring import Scoring
from eval.scores.all_scores import label_of
from eval.sets.opening import ALL, MEAN
from shards.errors import few
from train.watch.collapse import looked_for_collapse


@dataclass(frozen=True)
class Watch:
    """Facts from the health monitor of the training."""

    warnings: Sequence[str]
    """Warnings of the monitor, one line per kind of warning. A line has the text of the last
    warning of this kind."""
    has_looked: bool
    """True if the monitor looked for collapse in at least one report."""
    text: str
    """Sentence that says after which step the monitor looked for collapse. It has no full stop."""

    @classmethod
    def of(cls, reports: Sequence[Mapping[str, Any]], unseen_steps: int | None) -> Watch:
        """Return what the monitor saw.

        Args:
            reports: lines of the run's metrics.jsonl.
            unseen_steps: see `train.watch.collapse.looks_after_step`. None if it is not known.
        """
        if not reports or unseen_steps is None:
            text = "It is not known whether the health monitor looked"
            return cls(_warnings(reports), has_looked=False, text=text)
        last_step = reports[-1]["step"]
        text = looked_for_collapse(unseen_steps, last_step)
        return cls(_warnings(reports), has_looked=last_step > unseen_steps, text=text)


def _warnings(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    kinds = dict.fromkeys(kind for report in reports for kind in report.get("warnings", {}))
    for kind in kinds:
        told = [report for report in reports if kind in report.get("warnings", {})]
        steps = f"step {told[0]['step']:,}"
        if len(told) > 1:
            steps = f"{len(told)} reports from {steps} to {told[-1]['step']:,}"
        lines.append(f"{kind} ({steps}): {told[-1]['warnings'][kind]}")
    return lines


@dataclass
class Findings:
    """Sentences of the report that comment on its main AUROC. Each has no full stop at its end."""

    warnings: list[str] = field(default_factory=list)
    """Facts that a reader must know before relying on this AUROC."""
    notes: list[str] = field(default_factory=list)
    """Less important facts, and checks that were not made."""
    clean: list[str] = field(default_factory=list)
    """Checks that found nothing wrong."""


def findings(
    scoring: Scoring,
    reports: Sequence[Mapping[str, Any]] = (),
    unseen_steps: int | None = None,
) -> Findings:
    """Return all findings about the headline of a scoring.

    Args:
        scoring: the scoring.
        reports: lines of the run's metrics.jsonl.
        unseen_steps: see `Watch.of`.
    """
    found = Findings()
    hopeless, little = sizes_that_say_little(scoring.counts, scoring.equal_images)
    found.warnings += hopeless
    found.notes += little
    _add_sets(found, scoring)
    _add_training(found, scoring, reports, unseen_steps)
    _add_chance(found, scoring)
    if scoring.ensemble is None:
        _add_networks(found, scoring)
    else:
        _add_members(found, scoring, scoring.ensemble)
    _add_shortcuts(found, scoring, bool(hopeless))
    found.warnings += stored_otherwise(scoring)
    found.warnings += understood_otherwise(scoring)
    return found


def _add_sets(found: Findings, scoring: Scoring) -> None:
    """Add findings on images that sets share, and on the bank."""
    provenance = scoring.provenance
    shared = {sets: count for sets, count in provenance.overlap.items() if count}
    found.warnings += [f"{count:,} images are in both {sets}" for sets, count in shared.items()]
    if provenance.checkpoint and not provenance.bank_is_training_set:
        found.warnings.append("The bank is not the set that the run was trained on")
    of_images = bool(provenance.manifests)
    if not shared:
        what, how = ("image", "pixel by pixel") if of_images else ("row of features", "by number")
        found.clean.append(f"no {what} of bank or test set is in another set, compared {how}")
    if of_images:
        found.notes.append(
            "Copies that were stored in another way were not searched for; "
            "python -m shards.overlap does that"
        )
    else:
        found.notes.append(
            "Only features were given: images that sets share, and trivial statistics of images, "
            "were not checked"
        )


def _add_training(
    found: Findings,
    scoring: Scoring,
    reports: Sequence[Mapping[str, Any]],
    unseen_steps: int | None,
) -> None:
    """Add the warnings of the health monitor. If it did not look, add a note that says so."""
    if not scoring.provenance.checkpoint:
        return
    watch = Watch.of(reports, unseen_steps)
    found.warnings += [f"Training, {line}" for line in watch.warnings]
    if not reports or unseen_steps is None:
        found.notes.append("The run has no reports of its training, so its health is not known")
    elif not watch.has_looked:
        found.notes.append(watch.text)
    elif not watch.warnings:
        found.clean.append(
            f"the health monitor, which looked after step {unseen_steps:,}, had no warnings"
        )


def _add_chance(found: Findings, scoring: Scoring) -> None:
    """Add a warning for sets whose AUROC is below chance, or whose interval contains chance."""
    in_doubt = []
    for name in scoring.ood_names:
        auroc = scoring.headline_columns[name].auroc
        value = f"{percent(auroc.value, 1)} %"
        if auroc.high < CHANCE:
            found.warnings.append(
                f"The AUROC of {name} is {value}, below chance: its images look more like the "
                "training images than the in-distribution test images do"
            )
        elif auroc.low <= CHANCE:
            in_doubt.append(f"{name} {value} ({between(auroc, 1)})")
    if in_doubt:
        found.warnings.append(
            f"AUROC that may be chance, because the interval contains 50 %: "
            f"{few(in_doubt, NAMED_SETS)}"
        )


def _add_networks(found: Findings, scoring: Scoring) -> None:
    """Add networks and scores that are at least as good as the headline, on average or on a set."""
    own, names = scoring.headline_columns, scoring.ood_names
    what = "mean AUROC" if len(names) > 1 else "AUROC"
    own_mean = own[MEAN].auroc.value
    all_networks_are_worse = True
    for key, method in scoring.methods.items():
        is_own = key == scoring.headline
        scores = {s: c for s, c in method.scores.items() if not (is_own and s == scoring.score)}
        if not scores:
            continue
        best = max(scores, key=lambda score: scores[score][MEAN].auroc.value)
        mean = scores[best][MEAN].auroc.value
        sets = [name for name in names if any(_is_as_good(c, own, name) for c in scores.values())]
        is_worse = mean < own_mean
        all_networks_are_worse &= is_worse or is_own
        if is_own and mean <= own_mean:
            found.clean.append(f"no other score of {method.label} has a higher {what}")
        elif is_own:
            is_sure = scores[best][MEAN].auroc.low > own[MEAN].auroc.high
            (found.warnings if is_sure else found.notes).append(
                f"{method.label} is better by another score: its {what} is {percent(mean)} % by "
                f"{label_of(best)}, the headline's {percent(own_mean)} % by "
                f"{label_of(scoring.score)}"
            )
        elif not is_worse:
            found.warnings.append(
                f"{method.label} is {'better' if mean > own_mean else 'as good'}: its {what} is "
                f"{percent(mean)} % by {label_of(best)}, the headline's {percent(own_mean)} %"
            )
        elif sets:
            good = [
                label_of(score)
                for score, columns in scores.items()
                if any(_is_as_good(columns, own, name) for name in sets)
            ]
            found.notes.append(
                f"{method.label} is at least as good on {few(sets, NAMED_SETS)}, by "
                f"{few(good, NAMED_SETS)}"
            )
    others = len(scoring.methods) - 1
    if not others:
        found.notes.append("No other network was scored for comparison; --baselines adds two")
    elif all_networks_are_worse:
        found.clean.append(f"no other network has as high a {what}, by any of its scores")


def _add_members(found: Findings, scoring: Scoring, facts: EnsembleFacts) -> None:
    """Compare the ensemble with its members and the other networks, and say what it sees."""
    if told := useless(facts.sight):
        found.warnings.insert(0, told)
    found.notes += [f"Synthetic outliers: {line}" for line in in_words(facts.sight)]
    own = scoring.headline_columns[ALL].auroc
    others = {
        member.label: member.auroc for member in facts.members.values() if member.auroc is not None
    }
    for key, method in scoring.methods.items():
        for score, columns in method.scores.items():
            if f"{key}/{score}" not in facts.members:
                others[f"{method.label}, {label_of(score)}"] = columns[ALL].auroc.value
    best = max(others, key=lambda label: others[label])
    text = f"{percent(others[best])} % of all sets pooled, the ensemble {percent(own.value)} %"
    if others[best] > own.high:
        found.warnings.append(f"{best} is better: it has {text}")
    elif others[best] > own.value:
        found.notes.append(f"{best} is better, within the ensemble's interval: it has {text}")
    else:
        found.clean.append(f"none of {len(others)} other scores is better; {best} has {text}")


def _is_as_good(columns: Mapping[str, Metrics], own: Mapping[str, Metrics], name: str) -> bool:
    """Return True if the score with metrics `columns` is as good as the headline, or better."""
    return columns[name].auroc.value >= own[name].auroc.value


def _add_shortcuts(found: Findings, scoring: Scoring, hopeless: bool) -> None:
    """Add trivial statistics that tell sets apart. If `hopeless`, the check is never clean."""
    if scoring.shortcuts is None:
        return
    own = {name: scoring.headline_columns[name].auroc.value for name in scoring.ood_names}
    told = tell_apart(scoring.shortcuts, own)
    found.warnings += [one.text for one in told if one.weighs]
    found.notes += [one.text for one in told if not one.weighs]
    unseen = [name for name in own if not scoring.shortcuts.get(name)]
    if unseen:
        found.notes.append(f"Trivial statistics were not checked on {few(unseen, NAMED_SETS)}")
    elif not (told or hopeless):
        found.clean.append("no trivial statistic of the table below tells a set apart")
