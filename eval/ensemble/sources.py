"""The sources of an ensemble: features of images, and the scores that are fitted on them.

Some sources need no training: pixels, the colour histogram, and five statistics of the image. The
others are networks. If the negatives of a run are turned images, the teacher also sees each image
turned by 90, 180 and 270 degrees, and compares it with the bank turned in the same way. Its scores
are summed over the four turns, as in CSI's ensemble over shifts (Tack et al. 2020, section 2.3).

Legend: M images of the bank, d feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from dali_pipes.eval_loader import ImageSource
from dali_pipes.negatives import parse_negatives
from eval.config import ENSEMBLE, CommonConfig
from eval.features.cache import FeatureCache
from eval.features.image_features import ColourHistogram, Pixels, Statistics
from eval.features.networks import (
    TEACHER,
    Network,
    start_network,
    teacher_network,
    turned_network,
)
from eval.scores.bank import Bank
from eval.scores.covariance_scores import LedoitWolfMahalanobis, PcaResidual, SsdMahalanobis
from eval.scores.eq6 import Eq6
from eval.scores.fitted import FittedScore
from eval.scores.forest_and_density import IsolationForest, LocalOutlierFactor
from eval.scores.neighbour_scores import (
    CentredCosineNeighbours,
    CosineNeighbours,
    EuclidNeighbours,
)
from eval.sets.feature_file import FeatureFile
from eval.sets.opening import SYNTHETIC, EvalSets
from shards.errors import UserError
from shards.reader import ShardSet
from shards.terminal.mistakes import did_you_mean
from train.teacher import LoadedTeacher
from train.world import World

Fit = Callable[[Bank], FittedScore]
"""Function that fits a score on a bank."""
PIXELS, HISTOGRAM, STATISTICS = "pixels", "histogram", "statistics"
TURNS = 4
"""Number of the turns by right angles, with the upright image."""
TURNED_SHIFTS = frozenset({"rot", "rot90x4", "rot-any", "rot-any-early"})
"""Shifts of negatives that turn images."""
MOST_IMAGES = 10_000
"""Largest number of bank images on which a score of an image feature is fitted. Their ids are
evenly spaced. More images cost much time and change little."""
CHUNK = 1024
"""Number of images whose features are computed at a time."""


@dataclass(frozen=True)
class Source:
    """A source of features, and the scores that are fitted on the features of the bank."""

    network: Network
    """The features of images and of whole sets."""
    fits: Mapping[str, Fit]
    """Key of a score -> function that fits it."""
    image_module: nn.Module | None = None
    """The module of a feature that needs no network. None if the source is a network."""
    turn: int = 0
    """Number of right angles by which the source turns each image."""

    @property
    def key(self) -> str:
        """The key of the source: that of its network."""
        return self.network.key

    @property
    def is_rival(self) -> bool:
        """True if the source is a feature of the image that needs no network."""
        return self.image_module is not None

    def module(self, size_px: int) -> nn.Module:
        """Return the features as a module from uint8 [B, size_px, size_px, C] to float32 [B, d]."""
        return self.image_module or self.network.module(size_px)

    def of_bank(self, shards: ShardSet) -> Tensor:
        """Return the features of the bank, float32 [M, d]. All ranks must call this method.

        A rival takes at most `MOST_IMAGES` images.
        """
        if not self.is_rival:
            return self.network.of_shards(shards)
        ids = range(0, len(shards), -(-len(shards) // MOST_IMAGES))
        return self.network.of_images(shards, ids)


def image_sources(world: World) -> list[Source]:
    """Return the sources that need no network."""
    neighbours: dict[str, Fit] = {"knn-5-mean": EuclidNeighbours.fit}
    covariance: dict[str, Fit] = {"ledoit-wolf": LedoitWolfMahalanobis.fit}
    forest: dict[str, Fit] = {"isolation-forest": IsolationForest.fit}
    others: dict[str, Fit] = {
        "knn-5-cosine": CentredCosineNeighbours.fit,
        "pca-residual": PcaResidual.fit,
        "lof": LocalOutlierFactor.fit,
    }
    found: list[tuple[str, str, nn.Module, dict[str, Fit]]] = [
        (PIXELS, "pixels", Pixels(), neighbours | covariance | forest | others),
        (HISTOGRAM, "colour histogram", ColourHistogram(), neighbours | covariance),
        (STATISTICS, "image statistics", Statistics(), covariance | forest),
    ]
    return [
        Source(_image_network(key, label, module, world), fits, module)
        for key, label, module, fits in found
    ]


def network_fits(tau: float) -> dict[str, Fit]:
    """Return the scores that are fitted on the features of a network.

    Args:
        tau: temperature of Eq. 6.
    """
    return {
        "eq6": partial(Eq6.fit, tau=tau),
        "knn-5": CosineNeighbours.fit,
        "mahalanobis": SsdMahalanobis.fit,
        "lof": LocalOutlierFactor.fit,
    }


def run_sources(
    teacher: LoadedTeacher, config: CommonConfig, world: World, cache: FeatureCache
) -> list[Source]:
    """Return the sources of a run: its teacher, the turned teacher, the pretrained start.

    Args:
        teacher: the teacher of the run.
        config: the options of the scoring.
        world: the ranks.
        cache: cache for features.
    """
    fits = network_fits(config.tau)
    networks = [teacher_network(teacher, config, world, cache)]
    if is_turned(teacher):
        networks += [
            turned_network(teacher, turn, config, world, cache) for turn in range(1, TURNS)
        ]
    found = [Source(network, fits, turn=turn) for turn, network in enumerate(networks)]
    if teacher.config.model.init:
        start = start_network(teacher, config, world, cache)
        found.append(Source(start, fits))
    return found


def file_source(file: FeatureFile, sets: EvalSets, tau: float, world: World) -> Source:
    """Return the source of a feature file that has features of the synthetic outliers.

    Args:
        file: the file. `check` has passed, for the sets and for the array `SYNTHETIC`.
        sets: the sets, with their shards.
        tau: temperature of Eq. 6.
        world: the ranks.
    """
    names = {id(shards): name for name, shards in sets.shards.items()}

    def features(images: ImageSource, ids: range) -> Tensor:
        # Images that are not those of a set are the tuning images and the synthetic outliers.
        return file.of_set(names.get(id(images), SYNTHETIC))[ids.start : ids.stop]

    network = Network(file.key, file.label, features, FeatureCache(None), world)
    return Source(network, network_fits(tau))


def all_sources(
    teacher: LoadedTeacher, config: CommonConfig, world: World, cache: FeatureCache
) -> list[Source]:
    """Return all sources of a detector: those of its run, and those that need no network."""
    return [*run_sources(teacher, config, world, cache), *image_sources(world)]


def member_key(score: str) -> str | None:
    """Return the key of the member that --score names. None for the ensemble."""
    if score == ENSEMBLE:
        return None
    return score if "/" in score else f"{TEACHER}/{score}"


def sources_of(key: str, sources: Sequence[Source]) -> list[Source]:
    """Return the sources that one member needs, each with this one score.

    Args:
        key: key of the member, SOURCE/SCORE.
        sources: all sources.

    Raises:
        UserError: no source has this member. The message lists those that there are.
    """
    name, _, score = key.partition("/")
    known = [f"{source.key}/{fit}" for source in sources if not source.turn for fit in source.fits]
    if key not in known:
        short = [own.removeprefix(f"{TEACHER}/") for own in known]
        raise UserError(
            f"--score is {key.removeprefix(f'{TEACHER}/')}, expected {ENSEMBLE} or one of "
            f"{', '.join(short)}{did_you_mean(key, [*known, *short])}"
        )
    return [
        replace(source, fits={score: source.fits[score]})
        for source in sources
        if source.key == name
    ]


def is_turned(teacher: LoadedTeacher) -> bool:
    """Return True if the negatives of the run are turned images, at least in part."""
    branches = parse_negatives(teacher.config.strategy)
    return any(term.shift in TURNED_SHIFTS for branch in branches for term in branch.alternatives)


def _image_network(key: str, label: str, module: nn.Module, world: World) -> Network:
    return Network(key, label, partial(_features, module, world.device), FeatureCache(None), world)


@torch.no_grad()
def _features(
    module: nn.Module, device: torch.device, images: ImageSource, ids: Sequence[int]
) -> Tensor:
    """Return the features of the images with these ids, float32 [len(ids), d] on the device."""
    parts = [
        module(torch.from_numpy(images.read(np.array(ids[first : first + CHUNK]))))
        for first in range(0, len(ids), CHUNK)
    ]
    return torch.cat(parts).to(device) if parts else torch.empty((0, 0), device=device)
