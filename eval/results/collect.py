"""What one scoring found, as plain containers (results.json), and one CSV file a set.

    methods     network -> score -> column -> AUROC, AUPR, FPR95 with intervals, and the count
    probes      what else the headline's features tell: k-NN accuracy, occupied classes, sensitivity
    shortcuts   what trivial statistics tell of each OOD set
    equal_images   sets whose images are all equal
    the rest    what the numbers are of: sets, counts, digests, settings, versions, command

Columns are the OOD sets, `near` and `far` where the sets are grouped, `mean` over the sets, and
`all`, the sets pooled. The headline is one network's Eq. 6.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.config import TablesConfig
from eval.metrics import mean_of_sets, measure
from eval.results.paper_tables import groups_of
from eval.sets.leakage import Shared
from eval.sets.opening import ALL, BANK, FAR, MEAN, NEAR, TEST, EvalSets, ood_name
from eval.versions import versions
from shards.errors import UserError
from shards.reader import ShardSet
from shards.terminal.mistakes import did_you_mean
from train.run_folder import training_command
from train.teacher import LoadedTeacher
from train.world import World

FORMAT_VERSION = 2
Scores = Mapping[str, NDArray[np.float64]]
"""Set name -> float64 [N] in id order: `in-dist-test` and each OOD set. Higher = more OOD."""
Groups = Mapping[str, Sequence[str]]
"""`near` and `far` -> names of OOD sets; empty where no set is called near."""


def pooled_ood(scores: Scores) -> NDArray[np.float64]:
    """The scores of all OOD sets, one after the other: float64 [sum of their sizes]."""
    return np.concatenate([values for name, values in scores.items() if name != TEST])


def columns(scores: Scores, groups: Groups) -> dict[str, dict[str, Any]]:
    """Every metric of every column, as `eval.metrics.measure` gives it.

    Raises:
        UserError: see `eval.metrics.measure`.
    """
    in_dist = scores[TEST]
    ood = {name: values for name, values in scores.items() if name != TEST}
    found = {name: measure(in_dist, values) for name, values in ood.items()}
    for group in (NEAR, FAR):
        if groups.get(group):
            found[group] = mean_of_sets(in_dist, [ood[name] for name in groups[group]])
    found[MEAN] = mean_of_sets(in_dist, list(ood.values()))
    found[ALL] = measure(in_dist, pooled_ood(scores))
    return found


@dataclass(frozen=True)
class Method:
    """One network: what it is called, and all its scores."""

    label: str
    feature_dim: int
    scores: Mapping[str, Scores]
    """Score (see `eval.scores.all_scores`) -> scores of each set."""


def collect(
    methods: Mapping[str, Method],
    sets: EvalSets,
    *,
    headline: str,
    tau: float,
    groups: Groups,
    teacher: LoadedTeacher | None,
    probes: Mapping[str, Any],
    shortcuts: Mapping[str, Any] | None,
    overlap: Sequence[Shared],
    equal: Sequence[str],
    settings: Mapping[str, Any],
    command: Sequence[str],
) -> dict[str, Any]:
    """The content of results.json.

    Args:
        methods: network -> its scores, in the order of the table's rows.
        sets: the sets that were scored.
        headline: the network of the headline.
        tau: temperature of Eq. 6.
        groups: which OOD sets are near, which far.
        teacher: of the run, if a run was scored.
        probes: see `eval.audits.headline_probes.probes`.
        shortcuts: see `eval.audits.shortcuts.audit`; None where there are no images to look at.
        overlap: images that sets share, where that was allowed.
        equal: sets whose images are all equal.
        settings: see `settings`.
        command: the arguments that the scoring was started with.

    Raises:
        UserError: see `eval.metrics.measure`.
    """
    return {
        "format_version": FORMAT_VERSION,
        "higher_is": "ood",
        "headline": headline,
        "tau": tau,
        "counts": dict(sets.counts),
        "groups": {group: list(names) for group, names in groups.items()},
        "methods": {
            key: {
                "label": method.label,
                "feature_dim": method.feature_dim,
                "scores": {
                    score: columns(of_sets, groups) for score, of_sets in method.scores.items()
                },
            }
            for key, method in methods.items()
        },
        "probes": dict(probes),
        **({} if shortcuts is None else {"shortcuts": dict(shortcuts)}),
        **described(sets, teacher, overlap),
        "equal_images": list(equal),
        "settings": dict(settings),
        "versions": versions(),
        "command": list(command),
    }


def described(
    sets: EvalSets, teacher: LoadedTeacher | None, overlap: Sequence[Shared]
) -> dict[str, Any]:
    """What numbers are of: protocol, bank, checkpoint, sets, and the images that these share."""
    return {
        "protocol": protocol_name(sets),
        "bank_size": sets.counts[BANK],
        "bank_is_training_set": sets.bank_is_training_set(teacher),
        "checkpoint": {"step": teacher.step, "sha256": teacher.sha256} if teacher else None,
        "manifests": {
            name: {
                "name": manifest.name,
                "split": manifest.split,
                "protocol": manifest.protocol,
                "resize": manifest.resize,
                "encoding": manifest.encoding,
                "background": manifest.background,
                "intensity": manifest.intensity,
                "excluded": manifest.excluded,
                "sha256": manifest.sha256,
            }
            for name, manifest in sets.manifests.items()
        },
        "overlap": {f"{shared.one} and {shared.other}": len(shared.ids) for shared in overlap},
    }


def grouped(near: Sequence[str], sets: EvalSets) -> dict[str, list[str]]:
    """Near and far OOD sets by name, as the user or else the protocol has it; {} if none is near.

    Raises:
        UserError: a name is none of the OOD sets, or all of them are named.
    """
    near = [ood_name(name) for name in near]
    for name in near:
        if name not in sets.ood_names:
            held = ", ".join(sets.ood_names) + did_you_mean(name, sets.ood_names)
            raise UserError(f"--near is {name}, which is none of the OOD sets: {held}")
    if near:
        far = [name for name in sets.ood_names if name not in near]
        if not far:
            raise UserError(f"--near is {', '.join(near)}: all OOD sets, so that none is far")
        return {NEAR: [name for name in sets.ood_names if name in near], FAR: far}
    if not sets.shards:
        return {}
    return groups_of(protocol_name(sets), sets.manifests[TEST].name, sets.ood_names)


def settings(
    config: TablesConfig, run: Path | None, world: World, teacher: LoadedTeacher | None
) -> dict[str, Any]:
    """What shapes the numbers besides sets and networks, and how the teacher was trained."""
    trained: dict[str, Any] = {}
    if run is not None and teacher is not None:
        aux = teacher.config.aux
        trained["negatives"] = teacher.config.strategy
        trained["aux"] = aux.name if aux else None
        trained["training_command"] = training_command(run)
    return {
        **trained,
        "precision": config.precision,
        "batch": config.batch,
        "k": list(config.k),
        "device": world.device.type,
        "ranks": world.world_size,
    }


def protocol_name(sets: EvalSets) -> str:
    """The protocol that all sets belong to; "mixed: ..." if they differ, "custom" if none does."""
    names = sorted({manifest.protocol or "custom" for manifest in sets.manifests.values()})
    names = names or ["custom"]
    return names[0] if len(names) == 1 else "mixed: " + ", ".join(names)


def write_scores(path: Path, scores: NDArray[np.float64], shards: ShardSet | None) -> None:
    """One line an image: `id,score`, its `class` when the set knows it, and `name` in its source.

    Args:
        path: the CSV file to write.
        scores: float64 [N] in id order; written so that reading gives the same number back.
        shards: the set that was scored; None if only its features are there, which have no names.
    """
    header = ["id", "score"]
    columns: list[list[Any]] = [list(range(len(scores))), scores.tolist()]
    if shards is not None:
        classes = shards.manifest.classes
        if classes:
            labels = shards.labels(np.arange(len(scores), dtype=np.int64))
            header.append("class")
            columns.append([classes[label] for label in labels])
        header.append("name")
        columns.append(shards.names())
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        # Quoted whatever is in them: a name may hold a carriage return.
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))
