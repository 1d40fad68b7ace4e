"""The OOD score of the paper, Eq. 6, streamed in tiles.

Legend: N test images, M images of the bank (in-distribution training), d feature width.

    Eq. 6      S(x) = -1/M sum_m exp(cos(f(x), f_m) / tau)
    this file  s(x) = -log(1/M sum_m exp(cos(f(x), f_m) / tau))  =  -log(-S(x))

s rises with S, so both put images in the same order and give the same AUROC. s lies in
[-1/tau, 1/tau]; S reaches e^25 at tau = 0.04, which fp16 cannot hold, and differences between
images far from the bank vanish beside it. `eq6` gives S from s.

Higher = more OOD.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from shards.cli import UserError

TAU = 0.04
MIN_NORM = 1e-12
"""A shorter feature has no direction to speak of (`F.normalize` would not make it unit length)."""
IDS_NAMED = 5


@torch.no_grad()
def score(
    test: Tensor,
    bank: Tensor,
    tau: float = TAU,
    tile_rows: int = 1024,
    tile_bank: int = 8192,
    names: tuple[str, str] = ("test set", "bank"),
) -> Tensor:
    """Log form of Eq. 6 for each test feature, against the whole bank.

    Features are normalised in float32 (autocast is off in here); sums are a running
    log-sum-exp in float64. At most tile_rows x tile_bank cosines exist at a time, and tile sizes
    change the result only by rounding. All row tiles have one shape (the last is padded), so that
    equal features get equal scores wherever they stand, also in two calls with the same bank.

    Args:
        test: float32 [N, d], any length but zero, on the CPU or a CUDA device.
        bank: float32 [M, d], on the same device.
        tau: temperature, > 0.
        tile_rows: test features in a tile, >= 1.
        tile_bank: bank features in a tile, >= 1.
        names: what an error calls `test` and `bank`.

    Returns:
        float64 [N] on the device of the inputs, in [-1/tau, 1/tau]. Higher = more OOD.

    Raises:
        UserError: a set is empty or holds a feature that is NaN, Inf or of zero norm (the message
            names the set and the ids), or tau is not a positive number.
        ValueError: shapes do not fit, or a tile size is below 1.
    """
    if not (math.isfinite(tau) and tau > 0):
        raise UserError(f"tau is {tau}, expected a number > 0")
    if min(tile_rows, tile_bank) < 1:
        raise ValueError(f"tile_rows, tile_bank are {tile_rows}, {tile_bank}, expected >= 1")
    if test.ndim != 2 or bank.ndim != 2 or test.shape[1] != bank.shape[1]:
        raise ValueError(
            f"test {list(test.shape)} and bank {list(bank.shape)} are not [N,d], [M,d]"
        )
    _check_features(names[0], test)
    _check_features(names[1], bank)

    scores = []
    with torch.autocast(test.device.type, enabled=False):
        for row_tile in test.split(tile_rows):
            queries = F.pad(_unit(row_tile), (0, 0, 0, tile_rows - len(row_tile)))
            log_sum = torch.full((tile_rows,), -math.inf, dtype=torch.float64, device=test.device)
            for bank_tile in bank.split(tile_bank):
                cosines = queries @ _unit(bank_tile).T  # [tile_rows, tile_bank]
                log_sum = torch.logaddexp(log_sum, _log_sum_exp(cosines, tau))
            scores.append(math.log(len(bank)) - log_sum[: len(row_tile)])
    return torch.cat(scores)


def eq6(scores: Tensor) -> Tensor:
    """Eq. 6 itself, S = -exp(-s), from the scores s that `score` returns.

    Args:
        scores: float64 [N], the log form.

    Returns:
        float64 [N], below zero; higher = more OOD, in the same order as `scores`.
    """
    return -torch.exp(-scores.double())


def _log_sum_exp(cosines: Tensor, tau: float) -> Tensor:
    """Log of sum_m exp(cos_m / tau) of each row, float64; `cosines` is used up.

    `torch.logsumexp` in float32 would round to 2e-6 near 25 and so make ties of images that differ:
    those of an untrained network lie close together.
    """
    peak = cosines.amax(dim=1, keepdim=True)
    terms = cosines.sub_(peak).div_(tau).exp_()
    return peak[:, 0].double() / tau + terms.sum(dim=1, dtype=torch.float64).log()


def _unit(features: Tensor) -> Tensor:
    """L2-normalised rows, float32; done tile by tile, so no second copy of a set is held."""
    return F.normalize(features.float(), dim=1, eps=MIN_NORM)


def _check_features(name: str, features: Tensor) -> None:
    if len(features) == 0:
        raise UserError(f"{name}: no features; a score needs at least one image")
    norms = torch.linalg.vector_norm(features, dim=1, dtype=torch.float32)  # NaN, Inf carry over
    _refuse(name, "NaN or Inf", ~torch.isfinite(norms))
    _refuse(name, "zero norm, so their cosine is undefined", norms < MIN_NORM)


def _refuse(name: str, fault: str, bad: Tensor) -> None:
    ids = bad.nonzero().flatten().tolist()
    if ids:
        shown = ", ".join(map(str, ids[:IDS_NAMED])) + (", ..." if len(ids) > IDS_NAMED else "")
        raise UserError(f"{name}: {len(ids)} of {len(bad)} features have {fault}; ids {shown}")
