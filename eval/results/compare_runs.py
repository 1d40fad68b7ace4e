"""The scorings that `eval.compare` puts beside each other: read, and of the same sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.intervals import Interval
from eval.results.collect import FORMAT_VERSION
from eval.results.compare_figures import KNN
from eval.scores.all_scores import HEADLINE
from shards.errors import UserError


@dataclass(frozen=True)
class Run:
    """One results.json."""

    name: str
    path: Path
    results: dict[str, Any]

    @property
    def found(self) -> dict[str, Any]:
        """Column -> metrics of the headline network by the headline score."""
        return self.results["methods"][self.results["headline"]]["scores"][HEADLINE]

    @property
    def strategy(self) -> str:
        """The negatives, or the run's name where nothing is known of them."""
        return self.results["settings"].get("negatives") or self.name

    @property
    def knn_accuracy(self) -> float | None:
        """In [0, 1]; None without labels."""
        return self.results["probes"].get("knn_accuracy", {}).get(KNN)

    @property
    def occupied(self) -> dict[str, int] | None:
        """`count` and `of` soft classes; None without a head whose training set is the bank."""
        return self.results["probes"].get("occupied")

    @property
    def sensitivity(self) -> Interval:
        """AUROC of training against test images."""
        return self.results["probes"]["sensitivity"]


def load_runs(paths: Sequence[Path]) -> list[Run]:
    """Read the files and make sure that they can stand beside each other.

    Raises:
        UserError: there is none; one is no results.json of this version, or of --images; sets or
            tau differ between two. Names the files.
    """
    if not paths:
        raise UserError("--results: expected at least one results.json")
    folders = [path.absolute().parent for path in paths]
    runs = []
    for path, folder in zip(paths, folders, strict=True):
        is_alone = [other.name for other in folders].count(folder.name) == 1
        name = folder.name if is_alone else f"{folder.parent.name}/{folder.name}"
        runs.append(Run(name, path, _load(path)))
    for run in runs[1:]:
        _check_equal(runs[0], run)
    return runs


def _load(path: Path) -> dict[str, Any]:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"--results {path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"--results {path}: cannot be read ({error})") from None
    version = results.get("format_version") if isinstance(results, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(
            f"--results {path}: format_version is {version}, expected {FORMAT_VERSION}; score the "
            "run again"
        )
    if "methods" not in results:
        raise UserError(f"--results {path}: is of --images, not of OOD sets")
    if "sensitivity" not in results["probes"]:
        raise UserError(f"--results {path}: has no probe sensitivity; score the run again")
    return results


def _check_equal(one: Run, other: Run) -> None:
    for field in ("protocol", "tau", "counts", "groups"):
        here, there = one.results[field], other.results[field]
        if here != there:
            raise UserError(
                f"--results: {field} differs: {here} in {one.path}, {there} in {other.path}"
            )
    here, there = (
        {name: manifest["sha256"] for name, manifest in run.results["manifests"].items()}
        for run in (one, other)
    )
    for name in {**here, **there}:  # scorings of features alone have none
        if here.get(name) != there.get(name):
            raise UserError(f"--results: {name} is another set in {other.path} than in {one.path}")
