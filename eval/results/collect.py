"""Functions that collect the result of one scoring: metrics, and facts about sets and settings."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.config import TablesConfig
from eval.ensemble.of_sets import EnsembleScores
from eval.metrics import mean_of_sets, measure
from eval.results.ensemble_facts import EnsembleFacts
from eval.results.paper_tables import groups_of
from eval.results.scoring import (
    Checkpoint,
    Columns,
    NetworkMetrics,
    Provenance,
    SetFacts,
    Settings,
    Training,
)
from eval.sets.leakage import Shared
from eval.sets.opening import ALL, BANK, FAR, MEAN, NEAR, TEST, EvalSets, ood_name
from shards.errors import UserError
from shards.manifest import Manifest
from shards.reader import ShardSet
from shards.terminal.mistakes import did_you_mean
from train.run_folder import training_command
from train.teacher import LoadedTeacher
from train.world import World

Scores = Mapping[str, NDArray[np.float64]]
"""Name of each scored set (`in-dist-test` and each OOD set) -> scores, float64 [N], in the order of
the ids. A higher score means more OOD."""
Groups = Mapping[str, Sequence[str]]
"""`near` and `far` -> names of OOD sets. Empty if no set is called near."""


def pooled_ood(scores: Scores) -> NDArray[np.float64]:
    """Return the scores of all OOD sets in one array, one set after the other.

    Returns:
        float64 [n], where n is the number of images in all OOD sets.
    """
    return np.concatenate([values for name, values in scores.items() if name != TEST])


def columns(scores: Scores, groups: Groups) -> Columns:
    """Compute all metrics for every column of the tables.

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
    """One network and all its scores of every set."""

    label: str
    """Name of the network in tables and figures."""
    feature_dim: int
    scores: Mapping[str, Scores]
    """Key of a score (see `eval.scores.all_scores`) -> scores of each set."""


def network_metrics(method: Method, groups: Groups) -> NetworkMetrics:
    """Compute the metrics of all scores of a network.

    Raises:
        UserError: see `eval.metrics.measure`.
    """
    scores = {score: columns(of_sets, groups) for score, of_sets in method.scores.items()}
    return NetworkMetrics(method.label, method.feature_dim, scores)


def ensemble_facts(found: EnsembleScores, groups: Groups) -> EnsembleFacts:
    """Compute the metrics of an ensemble, and the AUROC of its members.

    Raises:
        UserError: see `eval.metrics.measure`.
    """
    of_members = [
        {name: m.auroc.value for name, m in columns(found.scores_of(number), groups).items()}
        for number in range(len(found.ensemble.members))
    ]
    score = columns(found.scores, groups)
    return EnsembleFacts.of(found.ensemble, len(found.evaluation_ids), score, of_members)


def provenance_of(
    sets: EvalSets, teacher: LoadedTeacher | None, overlap: Sequence[Shared]
) -> Provenance:
    """Return the facts about the bank, the checkpoint, the sets, and the images that sets share."""
    return Provenance(
        protocol=protocol_name(sets),
        bank_size=sets.counts[BANK],
        bank_is_training_set=sets.bank_is_training_set(teacher),
        checkpoint=Checkpoint(teacher.step, teacher.sha256) if teacher else None,
        manifests={name: _facts(manifest) for name, manifest in sets.manifests.items()},
        overlap={f"{shared.one} and {shared.other}": len(shared.ids) for shared in overlap},
    )


def _facts(manifest: Manifest) -> SetFacts:
    return SetFacts(
        name=manifest.name,
        split=manifest.split,
        protocol=manifest.protocol,
        resize=manifest.resize,
        encoding=manifest.encoding,
        background=manifest.background,
        intensity=manifest.intensity,
        excluded=manifest.excluded,
        sha256=manifest.sha256,
    )


def grouped(near: Sequence[str], sets: EvalSets) -> dict[str, list[str]]:
    """Return the near and the far OOD sets.

    Args:
        near: names of the near sets. If empty, the protocol of the sets says which are near.
        sets: the sets.

    Returns:
        `near` and `far` -> names. Empty if no set is near.

    Raises:
        UserError: a name is not the name of an OOD set, or all OOD sets are named.
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
) -> Settings:
    """Return the options that influence the numbers, and how the teacher was trained."""
    training = None
    if run is not None and teacher is not None:
        aux = teacher.config.aux
        training = Training(
            negatives=teacher.config.strategy,
            aux=aux.name if aux else None,
            training_command=training_command(run),
        )
    return Settings(
        training=training,
        precision=config.precision,
        batch=config.batch,
        k=tuple(config.k),
        device=world.device.type,
        ranks=world.world_size,
    )


def protocol_name(sets: EvalSets) -> str:
    """Return the protocol of the sets.

    Returns:
        The name of the protocol. "mixed: ..." if the sets have different protocols. "custom" if no
        set has a protocol.
    """
    names = sorted({manifest.protocol or "custom" for manifest in sets.manifests.values()})
    names = names or ["custom"]
    return names[0] if len(names) == 1 else "mixed: " + ", ".join(names)


def write_scores(
    path: Path,
    scores: NDArray[np.float64],
    shards: ShardSet | None,
    ids: NDArray[np.int64] | None = None,
) -> None:
    """Write a CSV file of scores, with one line per image.

    The columns are `id`, `score`, `class` and `name`. `class` is left out if the set has no
    classes. `name` is the name of the image in its source.

    Args:
        path: the CSV file to write.
        scores: float64 [N], in the order of `ids`. The digits in the file give exactly these
            numbers when they are read.
        shards: the set that was scored. None if only its features are known. Then `class` and
            `name` are left out.
        ids: ids of the images, int64 [N]. None for all images of the set.
    """
    ids = np.arange(len(scores), dtype=np.int64) if ids is None else ids
    header = ["id", "score"]
    columns: list[list[Any]] = [ids.tolist(), scores.tolist()]
    if shards is not None:
        classes = shards.manifest.classes
        if classes:
            labels = shards.labels(ids)
            header.append("class")
            columns.append([classes[label] for label in labels])
        header.append("name")
        names = shards.names()
        columns.append([names[number] for number in ids])
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        # All texts are quoted, because a name may contain a carriage return.
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))
