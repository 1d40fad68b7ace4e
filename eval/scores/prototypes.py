"""What the teacher's head says of an image: entropy and energy of its prototypes, occupied classes.

Legend: N images, d feature width, K prototypes, l logits [N, K] of the head.

    entropy   -sum_k p_k log p_k,  p = softmax(l / tau)      in [0, ln K]; Eq. 4 drives it up
    energy    -tau logsumexp_k(l_k / tau)                    (Liu et al. 2020, "Energy-based
                                                             Out-of-distribution Detection", Eq. 4)

Higher = more OOD for both. The head runs in float32, and in tiles.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from eval.features.checks import check_features
from shards.errors import UserError
from train.losses import teacher_p

TILE = 2048


@torch.no_grad()
def prototype_scores(
    head: nn.Module, features: Tensor, temp: float, name: str = "test set"
) -> dict[str, Tensor]:
    """Scores by the distribution over prototypes.

    Args:
        head: features [n, d] -> logits [n, K].
        features: float32 [N, d] on the head's device.
        temp: tau, > 0; the student's is that of the loss on negatives (Eq. 4).
        name: what an error calls `features`.

    Returns:
        "entropy" in nats and "energy" -> float64 [N]. Higher = more OOD.

    Raises:
        UserError: there are no features, some without a direction, or logits that are not finite.
    """
    check_features(name, features)
    parts = []
    for logits in _logits(head, features, name):
        scaled = logits.double() / temp
        log_p = scaled.log_softmax(-1)
        parts.append((-(log_p.exp() * log_p).sum(-1), -temp * scaled.logsumexp(-1)))
    entropy, energy = zip(*parts, strict=True)
    return {"entropy": torch.cat(entropy), "energy": torch.cat(energy)}


@torch.no_grad()
def occupied(
    head: nn.Module, features: Tensor, centre: Tensor, temp: float, name: str = "test set"
) -> tuple[int, int]:
    """Soft classes in use: those that an average image has a probability above 1/K of (Fig. 2).

    Args:
        head: features [n, d] -> logits [n, K].
        features: float32 [N, d] of in-distribution test images, on the head's device.
        centre: what is taken from the teacher's logits, float32 [1, K].
        temp: tau_t.
        name: what an error calls `features`.

    Returns:
        How many of how many (K).

    Raises:
        UserError: see `prototype_scores`.
    """
    check_features(name, features)
    total = torch.zeros(centre.shape[-1], dtype=torch.float64, device=features.device)
    for logits in _logits(head, features, name):
        total += teacher_p(logits.double(), centre.double(), temp).sum(0)
    # Above by more than the rounding of float32, so that of uniform classes none is occupied.
    above = total / len(features) * len(total) > 1 + 1e-6
    return int(above.sum()), len(total)


def _logits(head: nn.Module, features: Tensor, name: str) -> Iterator[Tensor]:
    """Logits [n, K] of one tile after the other, float32."""
    with torch.autocast(features.device.type, enabled=False):
        for first, part in zip(range(0, len(features), TILE), features.split(TILE), strict=True):
            logits = head(part.float())
            bad = (~logits.isfinite().all(1)).nonzero().flatten() + first
            if len(bad):
                raise UserError(f"{name}: the head's logits are not finite for id {int(bad[0])}")
            yield logits
