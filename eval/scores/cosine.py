"""Scores from the cosines between test features and a bank: Eq. 6 of the paper, maximum, k-NN.

Legend: N test images, M images of the bank (in-distribution training), d feature width, R rows and
C columns of a tile of cosines, k neighbours.

    Eq. 6        S(x) = -1/M sum_m exp(cos(f(x), f_m) / tau)
    eq6          s(x) = -log(1/M sum_m exp(cos(f(x), f_m) / tau))  =  -log(-S(x))
    max-cosine   -max_m cos(f(x), f_m)
    knn-K        -(the K-th largest cos(f(x), f_m))

s is an increasing function of S. So s and S put images in the same order and give the same AUROC. s
lies in [-1/tau, 1/tau]. At tau = 0.04, S can be as low as -e^25, which float16 cannot hold. For
images far from the bank, S differs only by amounts that are tiny in comparison and would be lost.
`eq6` computes S from s.

All scores come from one pass over the cosines, in tiles of R x C. Before the matrix product, the
test features are multiplied by log2(e) / tau. A term of Eq. 6 is then 2^x, where x is an element of
the product. The k largest cosines are searched only in groups of elements whose maximum is above
the k-th largest cosine so far. The bank may be divided over the ranks.

For every score, a higher value means more OOD.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from eval.config import TAU
from eval.features.checks import check_features, fault_of
from eval.features.full_float32 import full_float32
from eval.scores.tiles import Largest, keep_memory, log2_sum, unit
from shards.errors import UserError
from train.networks.onednn import packed, product
from train.world import World

NAMES = ("test set", "bank")

TILE_SHAPE = {"cpu": (500, 2048), "cuda": (2048, 8192)}
"""Default R and C of a tile, per device. On a CPU, a tile fits into the cache (4 MB), and R divides
the usual sizes of test sets."""
BLOCK_ROWS = 16000
"""Number of test features that are compared with one tile of the bank before the next tile of the
bank is prepared."""
LARGEST_EXPONENT = 100.0
"""Largest |x| for which 2^x, 2^-x and the sum of such terms over a tile fit into float32."""


@torch.no_grad()
def score(
    test: Tensor,
    bank: Tensor,
    tau: float = TAU,
    *,
    weights: Tensor | None = None,
    world: World | None = None,
    names: tuple[str, str] = NAMES,
) -> Tensor:
    """Return the log form s of Eq. 6 (see the head of this file).

    The computation is the one of `nearest_scores`, without the other scores.

    Args:
        test: test features, float32 [N, d]; see `nearest_scores`.
        bank: features of the bank, float32 [M, d]; see `nearest_scores`.
        tau: temperature, > 0.
        weights: float32 [M], > 0. A weight is the number of training features that a feature of the
            bank stands for. The mean in Eq. 6 is then a weighted mean. None means that all weights
            are 1.
        world: the ranks that share the bank. None means that `bank` is the whole bank.
        names: names of `test` and `bank` for error messages.

    Returns:
        float64 [N] on the device of the inputs, in [-1/tau, 1/tau]. A higher score means more OOD.

    Raises:
        UserError: see `nearest_scores`.
        ValueError: shapes do not fit, or `weights` are not M positive numbers.
    """
    _check(test, bank, tau, 0, world, names)
    if weights is not None and not (
        weights.shape == bank.shape[:1] and bool((weights.isfinite() & (weights > 0)).all())
    ):
        raise ValueError(f"weights {list(weights.shape)} are not {len(bank)} positive numbers")
    return _sweep(test, bank, tau, 0, weights, world)[0]


@torch.no_grad()
def nearest_scores(
    test: Tensor,
    bank: Tensor,
    tau: float,
    ks: Sequence[int],
    *,
    world: World | None = None,
    names: tuple[str, str] = NAMES,
) -> dict[str, Tensor]:
    """Return all scores of this file, from one comparison of each test feature with the whole bank.

    Unit vectors and cosines are in float32 (autocast and TF32 are off). Sums of more than 256 terms
    are in float64. Only a few tiles of cosines are in memory at a time. The size of the tiles
    changes the scores only by rounding. The last tile of rows is padded to R rows. Equal features
    therefore get equal scores at any position, also in two calls with the same bank.

    Args:
        test: test features, float32 [N, d], N > 0, on the CPU or a CUDA device; the same on all
            ranks. Features may have any norm except zero.
        bank: the part of the bank that this rank holds, float32 [M, d] on the same device. It may
            be empty.
        tau: temperature of Eq. 6, > 0.
        ks: numbers of neighbours of the k-NN scores, each from 1 to the size of the whole bank.
        world: the ranks that share the bank; the parts are in the order of the ranks. Every rank
            must call this function. None means that `bank` is the whole bank.
        names: names of `test` and `bank` for error messages.

    Returns:
        Name -> float64 [N] on the device of the inputs, the same on every rank. The names are
        "eq6", "max-cosine" and "knn-K" for each K in `ks`. A higher score means more OOD. Scores
        that are cosines are in [-1, 1], up to rounding.

    Raises:
        UserError: a set is empty or has a feature that is NaN, Inf or of zero norm (the message
            names the set and the ids), tau is not a positive number, or a k is below 1 or larger
            than the bank. Raised on every rank.
        ValueError: shapes do not fit.
    """
    if ks and min(ks) < 1:
        raise UserError(f"k is {min(ks)}, expected at least 1 neighbour")
    largest = max([1, *ks])
    _check(test, bank, tau, largest, world, names)
    eq6_scores, cosines = _sweep(test, bank, tau, largest, None, world)
    of_k = {"max-cosine": 1} | {f"knn-{k}": k for k in ks}
    return {"eq6": eq6_scores} | {name: -cosines[:, k - 1] for name, k in of_k.items()}


# ---------------------------------------------------------------------------------- the pass


@dataclass
class _Rows:
    """R test features, with their sums and largest products over the tiles of the bank so far."""

    queries: Tensor
    """Unit vectors of the test features times log2(e) / tau, float32 [R, d]."""
    log2_sum: Tensor
    """Base-2 logarithms of the sums in Eq. 6, float64 [R]."""
    largest: Largest
    """The k largest products of each test feature."""

    def meet(self, bank_tile: Tensor, log2_weights: Tensor | None, steep: bool) -> None:
        """Update the sums and the largest products with a tile of the bank.

        Args:
            bank_tile: C unit features of the bank, [C, d], as the function `packed` returns them.
            log2_weights: base-2 logarithms of the weights of these features, [C]. None means
                weights of 1.
            steep: True if 2^x of a product may not fit into float32.
        """
        tile = product(self.queries, bank_tile)  # [R, C]
        self.largest.add(tile)
        if log2_weights is not None:
            tile += log2_weights
        self.log2_sum = torch.logaddexp2(self.log2_sum, log2_sum(tile, steep))


def _sweep(
    test: Tensor,
    bank: Tensor,
    tau: float,
    k: int,
    weights: Tensor | None,
    world: World | None,
) -> tuple[Tensor, Tensor]:
    """Compute s and the k largest cosines for each test feature.

    s is the negated logarithm of the mean of exp(cosine / tau) over the bank, as at the top of this
    file.

    Returns:
        s, float64 [N], and the cosines in descending order, float64 [N, k].
    """
    tile_rows, tile_bank = TILE_SHAPE[test.device.type]
    if test.device.type == "cpu":
        keep_memory()
    scale = math.log2(math.e) / tau
    steep = scale > LARGEST_EXPONENT or weights is not None
    log2_weights = None if weights is None else weights.float().log2()
    mass = torch.tensor(len(bank)) if weights is None else weights.sum(dtype=torch.float64)
    total = _gathered(mass.double().to(test.device), world).sum()
    found = []
    with full_float32(), torch.autocast(test.device.type, enabled=False):
        for block in test.split(BLOCK_ROWS):
            rows = [
                _Rows(
                    F.pad(unit(part, scale), (0, 0, 0, tile_rows - len(part))),
                    test.new_full((tile_rows,), -math.inf, dtype=torch.float64),
                    Largest(tile_rows, k, test.device),
                )
                for part in block.split(tile_rows)
            ]
            for first in range(0, len(bank), tile_bank):
                bank_tile = packed(unit(bank[first : first + tile_bank]))
                log2 = None if log2_weights is None else log2_weights[first : first + tile_bank]
                for tile in rows:
                    tile.meet(bank_tile, log2, steep)
            log2_sums = torch.cat([tile.log2_sum for tile in rows])[: len(block)]
            largest = torch.cat([tile.largest.sort_out() for tile in rows])[: len(block)]
            log_sum = (_gathered(log2_sums, world) * math.log(2)).logsumexp(0)
            best = torch.cat(list(_gathered(largest, world)), 1).topk(k).values
            found.append((total.log() - log_sum, best.double() / scale))
    return torch.cat([scores for scores, _ in found]), torch.cat([best for _, best in found])


def _gathered(value: Tensor, world: World | None) -> Tensor:
    """Return the values of all ranks, in the order of the ranks. Every rank gets all values.

    Returns:
        A tensor of shape [ranks, *value.shape].
    """
    if world is None or world.world_size == 1:
        return value[None]
    values = [torch.empty_like(value) for _ in range(world.world_size)]
    dist.all_gather(values, value)
    return torch.stack(values)


def _check(
    test: Tensor, bank: Tensor, tau: float, k: int, world: World | None, names: tuple[str, str]
) -> None:
    """Refuse input that cannot be scored.

    If the bank of one rank has a fault, all ranks raise the error together. If only one rank raised
    it, the other ranks would wait for it without end.
    """
    if not (math.isfinite(tau) and tau > 0):
        raise UserError(f"tau is {tau}, expected a number > 0")
    if test.ndim != 2 or bank.ndim != 2 or test.shape[1] != bank.shape[1]:
        raise ValueError(
            f"test {list(test.shape)} and bank {list(bank.shape)} are not [N,d], [M,d]"
        )
    check_features(names[0], test)
    sizes = _gathered(torch.tensor(len(bank), device=test.device), world).tolist()
    first_id = sum(sizes[: world.rank]) if world else 0
    faults = [fault_of(names[1], bank, first_id)]
    if len(sizes) > 1:
        faults = faults * len(sizes)
        dist.all_gather_object(faults, faults[0])
    for fault in faults:
        if fault is not None:
            raise UserError(fault)
    if sum(sizes) == 0:
        raise UserError(f"{names[1]}: no features; a score needs at least one image")
    if k > sum(sizes):
        raise UserError(f"{names[1]}: {sum(sizes)} features, too few for {k} neighbours")
