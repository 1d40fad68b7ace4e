"""Leakage: images that the sets of a scoring share with each other or with the training set.

Shared images make a score look better or worse than it is. `shards.similarity.shared` compares the
images. If there are only feature files, their rows are compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from eval.sets.feature_file import FeatureFile
from eval.sets.opening import EvalSets
from shards.errors import UserError, few
from shards.similarity import shared
from shards.similarity.shared import Shared
from train.teacher import LoadedTeacher

ALLOW = "or allow it with --allow-overlap, which is recorded"


def check_overlap(
    sets: EvalSets,
    teacher: LoadedTeacher | None,
    files: Sequence[FeatureFile] = (),
    *,
    allow_overlap: bool,
) -> list[Shared]:
    """Find the images that sets share, and refuse them unless they are allowed.

    Args:
        sets: the sets, opened with the same `allow_overlap`.
        teacher: the teacher of the run. None if no run is scored.
        files: the feature files. Their rows are compared if the sets have no images.
        allow_overlap: True to return the shared images, False to refuse them.

    Returns:
        The shared images, with each pair of sets once.

    Raises:
        UserError: images are shared and `allow_overlap` is False. The message names the sets, the
            counts and the images or rows, and says what to do.
    """
    found = [] if teacher is None else _trained_on(sets, teacher, allow_overlap)
    if sets.shards:
        images = shared.shared_of_shards(sets.shards)
        if not allow_overlap:
            shared.refuse(images, sets.shards, ALLOW)
        return found + images
    of_files = []
    for file in files:
        rows = shared_rows({name: file.rows(name) for name in sets.counts})
        if not allow_overlap:
            _refuse_rows(rows, file)
        of_files += rows
    return shared.each_pair_once(of_files)


def shared_rows(features: Mapping[str, NDArray[np.float32]]) -> list[Shared]:
    """Find the rows that are equal, number by number, in two sets of features.

    Args:
        features: set -> float32 [N, d]. The order is the bank, the in-distribution test set, the
            OOD sets.
    """
    digests = {name: shared.digests([rows]) for name, rows in features.items()}
    return shared.equal(digests, shared.compared(features))


def _refuse_rows(found: Sequence[Shared], file: FeatureFile) -> None:
    if not found:
        return
    texts = [
        f"{len(rows.ids)} of {rows.other} are in {rows.one} too (ids {few(rows.ids.tolist())})"
        for rows in found
    ]
    raise UserError(
        f"sets share rows of {file.path}: {'; '.join(texts)}; take them out of the file, {ALLOW}"
    )


def _trained_on(sets: EvalSets, teacher: LoadedTeacher, allow_overlap: bool) -> list[Shared]:
    """Find the sets that the teacher was trained on. The bank is not checked.

    Returns:
        For each such set, all its images as shared images.

    Raises:
        UserError: there is such a set and `allow_overlap` is False.
    """
    folders = {"in-dist": teacher.config.in_dist, "aux": teacher.config.aux}
    words = {"in-dist": "the set", "aux": "the auxiliary set"}
    found = []
    for name, stream in itertools.product(sets.scored, words):
        shards, what = sets.shards[name], f"{words[stream]} that the run was trained on"
        if shards.manifest.sha256 != teacher.manifests.get(stream):
            continue
        if not allow_overlap:
            raise UserError(
                f"{name}: {shards.directory} is {what}, {folders[stream]}; allow it with "
                "--allow-overlap, which is recorded"
            )
        found.append(Shared(what, name, np.arange(len(shards))))
    return found
