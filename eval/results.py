"""What one scoring found, as plain containers (results.json), and one CSV file a set."""

from __future__ import annotations

import csv
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eval.metrics import auroc
from eval.sets import ALL, TEST, EvalSets
from shards.manifest import Manifest
from shards.reader import ShardSet

FORMAT_VERSION = 1
TEACHER = "teacher"
METHODS = {
    "pixel": "pixel cosine",
    "untrained": "untrained network",
    TEACHER: "trained teacher",
}
"""Key in results.json -> what a reader sees; in the order of the table's rows."""
Scores = Mapping[str, NDArray[np.float64]]
"""Set name -> float64 [N] in id order: `in-dist-test` and each OOD set. Higher = more OOD."""


def pooled_ood(scores: Scores) -> NDArray[np.float64]:
    """The scores of all OOD sets, one after the other: float64 [sum of their sizes]."""
    return np.concatenate([values for name, values in scores.items() if name != TEST])


def auroc_per_set(scores: Scores) -> dict[str, dict[str, Any]]:
    """AUROC in [0, 1] and the number of OOD images, for each OOD set and for `all` of them.

    Raises:
        UserError: see `eval.metrics.auroc`.
    """
    ood = {name: values for name, values in scores.items() if name != TEST}
    ood[ALL] = pooled_ood(scores)
    return {
        name: {"auroc": auroc(scores[TEST], values), "samples": len(values)}
        for name, values in ood.items()
    }


def collect(
    scores: Mapping[str, Scores],
    sets: EvalSets,
    *,
    tau: float,
    checkpoint: Mapping[str, Any],
    settings: Mapping[str, Any],
    bank_is_training_set: bool,
) -> dict[str, Any]:
    """The content of results.json.

    Args:
        scores: method (a key of `METHODS`, `teacher` among them) -> scores of each set.
        sets: the sets that were scored.
        tau: temperature of Eq. 6.
        checkpoint: the teacher's `step` and `sha256`.
        bank_is_training_set: whether the run was trained on the bank.
        settings: what else shaped the numbers (precision, view size, device kind, ...).

    Raises:
        UserError: see `eval.metrics.auroc`.
    """
    return {
        "format_version": FORMAT_VERSION,
        "higher_is": "ood",
        "score": "-log(mean over the bank of exp(cosine / tau))",
        "tau": tau,
        "protocol": protocol_name(shards.manifest for shards in sets.named.values()),
        "sets": auroc_per_set(scores[TEACHER]),
        "baselines": {
            method: auroc_per_set(per_set)
            for method, per_set in scores.items()
            if method != TEACHER
        },
        "bank_size": len(sets.bank),
        "bank_is_training_set": bank_is_training_set,
        "counts": {name: len(shards) for name, shards in sets.named.items()},
        "checkpoint": dict(checkpoint),
        "manifests": {
            name: {
                "name": shards.manifest.name,
                "split": shards.manifest.split,
                "protocol": shards.manifest.protocol,
                "sha256": shards.manifest.sha256,
            }
            for name, shards in sets.named.items()
        },
        "settings": dict(settings),
        "versions": versions(),
    }


def protocol_name(manifests: Iterable[Manifest]) -> str:
    """The protocol that all sets belong to; "mixed: ..." if they differ, "custom" if none does."""
    names = sorted({manifest.protocol or "custom" for manifest in manifests})
    return names[0] if len(names) == 1 else "mixed: " + ", ".join(names)


def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    packages = {name: version(name) for name in ("timm", "numpy", "scikit-learn")}
    return {"python": platform.python_version(), "torch": torch.__version__, **packages}


def write_scores(path: Path, shards: ShardSet, scores: NDArray[np.float64]) -> None:
    """One line an image: `id,score`, its `class` when the set knows it, and `name` in its source.

    Args:
        path: the CSV file to write.
        shards: the set that was scored.
        scores: float64 [N] in id order; written so that reading gives the same number back.
    """
    manifest = shards.manifest
    header = ["id", "score"]
    columns: list[list[Any]] = [list(range(len(scores))), [repr(float(s)) for s in scores]]
    if manifest.classes:
        labels = shards.labels(np.arange(len(scores), dtype=np.int64))
        header.append("class")
        columns.append([manifest.classes[label] for label in labels])
    header.append("name")
    columns.append(shards.names())
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))
