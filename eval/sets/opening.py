"""The sets of one scoring, and what must not be scored against what."""

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
NEAR, FAR, MEAN, ALL = "near", "far", "mean", "all"
"""Columns beside the sets' own: means over the near, the far and all OOD sets, and the OOD sets
pooled."""


def ood_name(given: str) -> str:
    """What an OOD set is called: as its folder, or its array, unless a column is called so."""
    return f"{given}-set" if given in (BANK, TEST, NEAR, FAR, MEAN, ALL) else given


@dataclass(frozen=True)
class EvalSets:
    """Sets by name: the bank (in-distribution training), the in-distribution test set, OOD sets."""

    counts: Mapping[str, int]
    """How many images each has."""
    shards: Mapping[str, ShardSet]
    """Of the same sets, open; shapes are equal. Empty where only features are there."""

    @property
    def scored(self) -> list[str]:
        """Names of the sets that get scores: all but the bank."""
        return [name for name in self.counts if name != BANK]

    @property
    def ood_names(self) -> list[str]:
        """Names of the OOD sets."""
        return [name for name in self.scored if name != TEST]

    @property
    def ood(self) -> dict[str, ShardSet]:
        """Shards of the OOD sets, if there are shards."""
        return {name: self.shards[name] for name in self.ood_names if name in self.shards}

    @property
    def manifests(self) -> dict[str, Manifest]:
        """Of each set, if there are shards."""
        return {name: shards.manifest for name, shards in self.shards.items()}

    def bank_is_training_set(self, teacher: LoadedTeacher | None) -> bool:
        """Whether the bank is the set that the teacher was trained on, as Eq. 6 has it."""
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
    """Open and check the sets; `stack` closes them.

    Raises:
        UserError: a folder is no sound shard set, or is given twice, a set is empty, two OOD sets
            have one name, or shapes differ; or two sets hold the same images by
            their manifests, unless that is allowed.
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
                f"{name}: images are {_times(shape)}, those of {BANK} are {_times(expected)}; "
                "build all sets at the in-distribution size"
            )


def _check_leakage(sets: Mapping[str, ShardSet]) -> None:
    """No two sets may hold the same images, however their folders are called."""
    for one, other in itertools.combinations(sets, 2):
        here, there = sets[one].manifest, sets[other].manifest
        if share_shards(here, there):
            fault = "hold the same shards"
        # What other lists leave out may be the whole difference: `eval.sets.leakage` looks then.
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
