"""The sets of a scoring: their names, their shards, and checks that the sets can be compared."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from shards.errors import UserError
from shards.manifest import Manifest
from shards.reader import ShardSet
from shards.similarity.shared import share_shards, share_source
from train.teacher import LoadedTeacher

BANK = "in-dist-train"
TEST = "in-dist-test"
SYNTHETIC = "synthetic-outliers"
"""The array of a feature file that has the features of the images that `eval.spoil` writes."""
NEAR, FAR, MEAN, ALL = "near", "far", "mean", "all"
"""Further columns of the tables. near, far and mean are means over the near OOD sets, the far OOD
sets and all OOD sets. all is the result of all OOD sets pooled into one set."""


def ood_name(given: str) -> str:
    """Return the name of an OOD set.

    Args:
        given: name of its folder or array. If that name is reserved, "-set" is added.
    """
    reserved = BANK, TEST, SYNTHETIC, NEAR, FAR, MEAN, ALL
    return f"{given}-set" if given in reserved else given


@dataclass(frozen=True)
class EvalSets:
    """The sets of a scoring. The order is the bank, the in-distribution test set, the OOD sets."""

    counts: Mapping[str, int]
    """Set -> number of its images."""
    shards: Mapping[str, ShardSet]
    """Set -> its open shards. All images have the same shape. Empty if there are only feature
    files."""

    @property
    def scored(self) -> list[str]:
        """Names of all sets that get scores: all sets except the bank."""
        return [name for name in self.counts if name != BANK]

    @property
    def ood_names(self) -> list[str]:
        """Names of the OOD sets."""
        return [name for name in self.scored if name != TEST]

    @property
    def ood(self) -> dict[str, ShardSet]:
        """OOD set -> its shards. Empty if there are only feature files."""
        return {name: self.shards[name] for name in self.ood_names if name in self.shards}

    @property
    def manifests(self) -> dict[str, Manifest]:
        """Set -> its manifest. Empty if there are only feature files."""
        return {name: shards.manifest for name, shards in self.shards.items()}

    def bank_is_training_set(self, teacher: LoadedTeacher | None) -> bool:
        """Return True if the bank is the training set of the teacher, as in Eq. 6 of the paper."""
        if teacher is None:
            return False
        return self.shards[BANK].manifest.sha256 == teacher.manifests["in-dist"]


def open_sets(
    in_dist_train: Path,
    in_dist_test: Path,
    ood: tuple[Path, ...],
    stack: ExitStack,
    *,
    allow_overlap: bool = False,
) -> EvalSets:
    """Open the sets and check them. `stack` closes them.

    Raises:
        UserError: a folder is not a valid shard set or is given twice, a set is empty, two OOD sets
            have the same name, or the shapes of images differ. Also raised if two sets have the
            same images according to their manifests, unless `allow_overlap` is True.
    """
    directories = {BANK: in_dist_train, TEST: in_dist_test}
    for directory in ood:
        folder = Path(os.path.abspath(directory)).name
        for own, path in ((BANK, in_dist_train), (TEST, in_dist_test)):
            if directory.resolve() == path.resolve():
                raise UserError(f"{own} and {folder} are the same folder, {directory}")
        name = ood_name(folder)
        if name in directories:
            raise UserError(f"--ood: {directories[name]} and {directory} are both named {name!r}")
        directories[name] = directory
    for (one, path), (other, other_path) in itertools.combinations(directories.items(), 2):
        if path.resolve() == other_path.resolve():
            raise UserError(f"{one} and {other} are the same folder, {path}")

    opened = {}
    for name, directory in directories.items():
        opened[name] = ShardSet.open(directory)
        stack.callback(opened[name].close)
        if len(opened[name]) == 0:
            raise UserError(f"{name}: {directory} holds no images")
    _check_shapes(opened)
    if not allow_overlap:
        _check_leakage(opened)
    return EvalSets({name: len(shards) for name, shards in opened.items()}, opened)


def _check_shapes(sets: Mapping[str, ShardSet]) -> None:
    expected = sets[BANK].manifest.sample_shape
    for name, shards in sets.items():
        shape = shards.manifest.sample_shape
        if shape != expected:
            raise UserError(
                f"{name}: images are {_times(shape)}, images of {BANK} are {_times(expected)}; "
                "build all sets at the in-distribution size"
            )


def _check_leakage(sets: Mapping[str, ShardSet]) -> None:
    """Refuse sets in different folders whose manifests say that they have the same images."""
    for one, other in itertools.combinations(sets, 2):
        here, there = sets[one].manifest, sets[other].manifest
        if share_shards(here, there):
            fault = "hold the same shards"
        # With different exclude lists, the sets may be disjoint. `leakage.py` compares the images.
        elif share_source(here, there) and here.exclude_sha256 == there.exclude_sha256:
            fault = "were built from the same source and labels"
        else:
            continue
        raise UserError(
            f"{one} and {other} {fault}: {sets[one].directory}, {sets[other].directory}; allow it "
            "with --allow-overlap, which is recorded"
        )


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
