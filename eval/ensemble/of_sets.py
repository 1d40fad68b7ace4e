"""The ensemble of a scoring of shard sets: tuned on half of the test set, scored on the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.config import SetsConfig
from eval.ensemble.ensemble import Ensemble, tuned
from eval.ensemble.members import member_scores
from eval.ensemble.sources import Source, file_source, image_sources, network_fits, run_sources
from eval.features.checks import check_features
from eval.features.networks import cache_of, timm_network
from eval.outliers.tuning_images import TuningImages, tuning_part
from eval.sets.feature_file import FeatureFile
from eval.sets.opening import BANK, SYNTHETIC, TEST, EvalSets
from shards.errors import UserError
from shards.reader import ShardSet
from train.teacher import LoadedTeacher
from train.world import World

Float = NDArray[np.float64]


@dataclass(frozen=True)
class EnsembleScores:
    """An ensemble, and the scores of its m members on every scored set."""

    ensemble: Ensemble
    of_members: Mapping[str, Float]
    """Name of a set -> the scores of its images by the m members, float64 [N, m]. Of the test set,
    only the images of `evaluation_ids` have scores."""
    evaluation_ids: NDArray[np.int64]
    """Ids of the test images that took no part in the tuning, int64 [n], ascending."""

    @property
    def scores(self) -> dict[str, Float]:
        """Name of a set -> the scores of its images by the ensemble, float64 [N]."""
        moments, weights = self.ensemble.moments, self.ensemble.weights
        return {name: moments.z(scores) @ weights for name, scores in self.of_members.items()}

    def scores_of(self, member: int) -> dict[str, Float]:
        """Return name of a set -> the scores of its images by one member, float64 [N]."""
        return {name: scores[:, member] for name, scores in self.of_members.items()}


def score_with_ensemble(
    config: SetsConfig,
    sets: EvalSets,
    files: Sequence[FeatureFile],
    teacher: LoadedTeacher | None,
    world: World,
    tell: Callable[[str], None],
) -> EnsembleScores:
    """Tune an ensemble, and score all sets with it. All ranks must call this function.

    Args:
        config: options that were checked.
        sets: the sets, with their shards.
        files: the files of `config.features`. Those without the features of the synthetic outliers
            take no part, and `tell` says so.
        teacher: the teacher of the run. None if there is no run.
        world: the ranks.
        tell: function that shows a line of text to the user.

    Raises:
        UserError: there are too few test images, no score can be fitted, or a file has not one
            finite feature for each synthetic outlier.
    """
    cache = cache_of(config)
    fits = network_fits(config.tau)
    sources = image_sources(world)
    for given in config.backbone:
        sources.append(Source(timm_network(given, config, cache, world), fits))
    if teacher is not None:
        sources += run_sources(teacher, config, world, cache)
    tuning, evaluation = tuning_part(np.arange(sets.counts[TEST]))
    if not len(evaluation):
        raise UserError(
            f"{TEST}: 1 image is too few for the ensemble, which is tuned on half of the set; "
            "give more images, or choose one score with --score"
        )
    bank, test = sets.shards[BANK], sets.shards[TEST]
    images = TuningImages.read(test, tuning)
    for file in files:
        if SYNTHETIC not in file.arrays:
            tell(
                f"{file.label}: no array {SYNTHETIC} (see python -m eval.spoil), so these features "
                "take no part in the ensemble"
            )
            continue
        file.check({BANK: len(bank), SYNTHETIC: len(images.everything)})
        check_features(f"{SYNTHETIC} ({file.label})", file.of_set(SYNTHETIC))
        sources.append(file_source(file, sets, config.tau, world))
    ensemble = tuned(sources, lambda source: source.of_bank(bank), images, tell)
    rows = torch.from_numpy(evaluation).to(world.device)
    members = ensemble.members
    found = {TEST: member_scores(members, lambda source: source.network.of_shards(test)[rows])}
    for name, shards in sets.ood.items():
        found[name] = member_scores(members, partial(_of_set, shards))
    return EnsembleScores(ensemble, found, evaluation)


def _of_set(shards: ShardSet, source: Source) -> Tensor:
    return source.network.of_shards(shards)
