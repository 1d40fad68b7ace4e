"""The runs that `eval.compare` compares: functions that read and check their results.json files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.results.scoring import Scoring
from shards.errors import UserError

KNN = "k20-t0.07"
"""Settings of the k-NN accuracy that is compared: DINO's best k and its temperature."""


@dataclass(frozen=True)
class Run:
    """One scoring, read from its results.json."""

    name: str
    """Name of the run in tables and figures: the name of the folder that holds results.json. If two
    folders have the same name, the parent folder is added."""
    path: Path
    scoring: Scoring

    @property
    def strategy(self) -> str:
        """The strategy of the run's negatives. The name of the run if no trained run was scored."""
        training = self.scoring.settings.training
        return training.negatives if training else self.name

    @property
    def knn_accuracy(self) -> float | None:
        """The k-NN accuracy, in [0, 1]. None if the sets have no labels."""
        return (self.scoring.probes.knn_accuracy or {}).get(KNN)


def load_runs(paths: Sequence[Path]) -> list[Run]:
    """Read the results.json files of runs, and check that the runs are comparable.

    Raises:
        UserError: no path is given, a file is no results.json of this version, a file was written
            with --images, or the sets or tau of two runs differ. The message names the files.
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


def _load(path: Path) -> Scoring:
    try:
        return Scoring.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"--results {path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--results {path}: cannot be read ({error})") from None
    except UserError as error:
        raise UserError(f"--results {path}: {error}") from None


def _check_equal(one: Run, other: Run) -> None:
    here, there = one.scoring, other.scoring
    for name, ours, theirs in (
        ("protocol", here.provenance.protocol, there.provenance.protocol),
        ("tau", here.tau, there.tau),
        ("counts", here.counts, there.counts),
        ("groups", here.groups, there.groups),
    ):
        if ours != theirs:
            raise UserError(
                f"--results: {name} differs: {ours} in {one.path}, {theirs} in {other.path}"
            )
    digests, others = (
        {name: facts.sha256 for name, facts in run.scoring.provenance.manifests.items()}
        for run in (one, other)
    )
    for name in {**digests, **others}:  # empty if only features were scored
        if digests.get(name) != others.get(name):
            raise UserError(f"--results: {name} is another set in {other.path} than in {one.path}")
