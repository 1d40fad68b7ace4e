"""Scores from the teacher's head (entropy and energy), and the number of occupied soft classes.

Legend: N images, d feature width, K prototypes, l logits [N, K] of the head.

    entropy   -sum_k p_k log p_k,  p = softmax(l / tau)      in [0, ln K]; Eq. 4 raises it for
                                                             negatives
    energy    -tau logsumexp_k(l_k / tau)                    (Liu et al. 2020, "Energy-based
                                                             Out-of-distribution Detection", Eq. 4)

For both scores, a higher value means more OOD. The head runs in float32 on one tile of features at
a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from eval.features.checks import check_features
from shards.errors import UserError
from train.losses import teacher_p

TILE = 2048
"""Number of features that the head takes at a time."""


@torch.no_grad()
def prototype_scores(
    head: nn.Module, features: Tensor, temp: float, name: str = "test set"
) -> dict[str, Tensor]:
    """Compute the entropy and the energy of the head's logits.

    Args:
        head: module that turns features [n, d] into logits [n, K].
        features: float32 [N, d] on the device of the head.
        temp: temperature tau, > 0. The loss on negatives (Eq. 4) uses the student's temperature.
        name: name of `features` for error messages.

    Returns:
        "entropy" (in nats) and "energy" -> float64 [N]. A higher score means more OOD.

    Raises:
        UserError: there are no features, a feature is NaN, Inf or of zero norm, or logits are not
            finite.
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
    """Count the soft classes (prototypes) that are occupied.

    A soft class is occupied if its mean probability over the images is above 1/K (Fig. 2 of the
    paper).

    Args:
        head: module that turns features [n, d] into logits [n, K].
        features: features of in-distribution test images, float32 [N, d] on the device of the head.
        centre: centre that is subtracted from the teacher's logits, float32 [1, K].
        temp: the teacher's temperature tau_t, > 0.
        name: name of `features` for error messages.

    Returns:
        The number of occupied classes, and K.

    Raises:
        UserError: see `prototype_scores`.
    """
    check_features(name, features)
    total = torch.zeros(centre.shape[-1], dtype=torch.float64, device=features.device)
    for logits in _logits(head, features, name):
        total += teacher_p(logits.double(), centre.double(), temp).sum(0)
    # The margin 1e-6 is larger than rounding errors, so that no class is occupied if all are equal.
    above = total / len(features) * len(total) > 1 + 1e-6
    return int(above.sum()), len(total)


def _logits(head: nn.Module, features: Tensor, name: str) -> Iterator[Tensor]:
    """Yield the logits of one tile of features after another, float32 [n, K].

    Raises:
        UserError: logits are not finite.
    """
    with torch.autocast(features.device.type, enabled=False):
        for first, part in zip(range(0, len(features), TILE), features.split(TILE), strict=True):
            logits = head(part.float())
            bad = (~logits.isfinite().all(1)).nonzero().flatten() + first
            if len(bad):
                raise UserError(f"{name}: the head's logits are not finite for id {int(bad[0])}")
            yield logits
