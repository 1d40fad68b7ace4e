"""The members of an ensemble: each gives one score from the features of one or more sources.

Legend: M images of the bank, N images, d feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eval.ensemble.sources import TURNS, Source
from eval.scores.all_scores import label_of
from eval.scores.bank import Bank, UnfitError
from eval.scores.fitted import FittedScore, scores_of

Float = NDArray[np.float64]
Scores = TypeVar("Scores", NDArray[np.float64], Tensor)
FeaturesOf = Callable[[Source], Tensor]
"""Function that returns the features of some images from a source, float32 [N, d]."""


@dataclass(frozen=True)
class Part:
    """A fitted score of one source, with the moments of its values on the tuning images."""

    source: Source
    score: FittedScore
    mean: float
    deviation: float


@dataclass(frozen=True)
class Member:
    """A member of an ensemble: one score, or the sum of the z-scores of several parts."""

    key: str
    """SOURCE/SCORE, such as teacher/eq6, or SOURCE-turned/SCORE for a sum over the four turns."""
    label: str
    """Name in tables and reports."""
    is_rival: bool
    """True if the member needs no network."""
    parts: tuple[Part, ...]

    def combined(self, raw: Mapping[int, Scores]) -> Scores:
        """Return the scores of the member, [N].

        Args:
            raw: id() of each part -> its scores, [N], in numpy or in torch.
        """
        if len(self.parts) == 1:
            return raw[id(self.parts[0])]
        z = [(raw[id(part)] - part.mean) / part.deviation for part in self.parts]
        return reduce(add, z)


def fit_members(
    sources: Iterable[Source],
    of_bank: FeaturesOf,
    of_tuning: FeaturesOf,
    tell: Callable[[str], None],
) -> list[Member]:
    """Fit all scores of the sources on the bank.

    A score that cannot be fitted is left out, and `tell` gets the reason.

    Args:
        sources: the sources. Turned copies of a source come directly after it.
        of_bank: features of the bank.
        of_tuning: features of the tuning images.
        tell: function that shows a line of text to the user.
    """
    parts: dict[tuple[str, str], list[Part]] = {}
    for source in sources:
        if source.turn == 0:
            upright = source
        bank, tuning = Bank(of_bank(source)), of_tuning(source)
        fitted: dict[str, FittedScore] = {}
        left_out: dict[str, list[str]] = {}
        for key, fit in source.fits.items():
            try:
                fitted[key] = fit(bank)
            except UnfitError as error:
                left_out.setdefault(str(error), []).append(label_of(key))
        values_of = zip(fitted.items(), scores_of([*fitted.values()], tuning), strict=True)
        for (key, score), values in values_of:
            part = Part(source, score, float(values.mean()), float(values.std()) or 1.0)
            parts.setdefault((upright.key, key), []).append(part)
        for reason, scores in left_out.items():
            tell(f"{source.network.label}: left out: {', '.join(scores)}: {reason}")
    members = []
    for (source_key, key), of_turns in parts.items():
        first = of_turns[0].source
        name = f"{first.network.label}, {label_of(key)}"
        members.append(Member(f"{source_key}/{key}", name, first.is_rival, (of_turns[0],)))
        if len(of_turns) == TURNS:
            turned = f"{source_key}-turned/{key}"
            members.append(Member(turned, f"{name}, four turns", first.is_rival, tuple(of_turns)))
    return members


def parts_by_source(members: Sequence[Member]) -> dict[str, tuple[Source, list[Part]]]:
    """Return the parts of the members: key of a source -> the source and the parts that use it."""
    found: dict[str, tuple[Source, list[Part]]] = {}
    for part in {id(part): part for member in members for part in member.parts}.values():
        found.setdefault(part.source.key, (part.source, []))[1].append(part)
    return found


def member_scores(members: Sequence[Member], features_of: FeaturesOf) -> Float:
    """Return the scores of all members for the same N images, float64 [N, members].

    The features of each source are computed once, and only if a member needs them.
    """
    raw: dict[int, Float] = {}
    for source, parts in parts_by_source(members).values():
        scores = scores_of([part.score for part in parts], features_of(source))
        raw.update({id(part): of_part for part, of_part in zip(parts, scores, strict=True)})
    return np.stack([member.combined(raw) for member in members], axis=1)
