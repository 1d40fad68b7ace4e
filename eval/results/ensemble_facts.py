"""The ensemble of one scoring, as results.json has it: members, weights, and what each sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from eval.ensemble.ensemble import Ensemble
from eval.intervals import Interval
from eval.metrics import Metrics
from eval.sets.opening import ALL


@dataclass(frozen=True)
class MemberFacts:
    """A member of the ensemble."""

    label: str
    """Name in tables and reports."""
    weight: float
    """Weight in [0, 1]. The weights of all members sum to 1."""
    proxy_auroc: float
    """Mean AUROC over the families of synthetic outliers, in [0, 1]. 0.5 if there are none."""
    is_rival: bool
    """True if the member needs no network."""
    auroc: float | None = None
    """AUROC of all OOD sets pooled into one, in [0, 1]. None if no OOD sets were scored."""
    aurocs: dict[str, float] = field(default_factory=dict)
    """Column of the tables -> AUROC, in [0, 1]. Empty if no OOD sets were scored."""


@dataclass(frozen=True)
class EnsembleFacts:
    """The ensemble: where its weights come from, and what its members are worth."""

    tuning_images: int
    """Number of the held-out normal images that gave moments and weights."""
    evaluation_images: int
    """Number of the held-out normal images that gave AUROC or p-values."""
    members: dict[str, MemberFacts]
    """Key of a member, SOURCE/SCORE -> facts about it."""
    score: dict[str, Metrics] | None
    """Column of the tables -> metrics of the ensemble. None if no OOD sets were scored."""
    sight: dict[str, Interval]
    """Family of synthetic outliers -> AUROC of the ensemble."""
    sight_of_members: dict[str, dict[str, float]]
    """Family -> member -> AUROC, in [0, 1]."""

    @classmethod
    def of(
        cls,
        ensemble: Ensemble,
        evaluation_images: int,
        score: dict[str, Metrics] | None = None,
        aurocs: Sequence[dict[str, float]] = (),
    ) -> EnsembleFacts:
        """Return the facts about an ensemble.

        Args:
            ensemble: the ensemble.
            evaluation_images: number of images that gave AUROC or p-values.
            score: column -> metrics of the ensemble. None if no OOD sets were scored.
            aurocs: column -> AUROC, for each member. Empty if no OOD sets were scored.
        """
        by_family = ensemble.proxies
        members = {}
        for number, member in enumerate(ensemble.members):
            seen = [found[number].value for found in by_family.values()]
            of_member = aurocs[number] if aurocs else {}
            members[member.key] = MemberFacts(
                label=member.label,
                weight=float(ensemble.weights[number]),
                proxy_auroc=float(np.mean(seen or [0.5])),
                is_rival=member.is_rival,
                auroc=of_member.get(ALL),
                aurocs=of_member,
            )
        return cls(
            tuning_images=ensemble.tuning_images,
            evaluation_images=evaluation_images,
            members=members,
            score=score,
            sight=dict(ensemble.of_sum),
            sight_of_members={
                family: {
                    member.key: auroc.value
                    for member, auroc in zip(ensemble.members, found, strict=True)
                }
                for family, found in by_family.items()
            },
        )
