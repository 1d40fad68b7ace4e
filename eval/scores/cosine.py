"""Scores by the cosines to a bank, streamed in tiles: Eq. 6 of the paper, and its relatives.

Legend: N test images, M images of the bank (in-distribution training), d feature width, R rows and
C columns of a tile, k neighbours.

    Eq. 6        S(x) = -1/M sum_m exp(cos(f(x), f_m) / tau)
    eq6          s(x) = -log(1/M sum_m exp(cos(f(x), f_m) / tau))  =  -log(-S(x))
    max-cosine   -max_m cos(f(x), f_m)
    knn-K        -(the K-th largest cos(f(x), f_m))

s rises with S, so both put images in the same order and give the same AUROC. s lies in
[-1/tau, 1/tau]; S reaches e^25 at tau = 0.04, which fp16 cannot hold, and differences between
images far from the bank vanish beside it. `eq6` gives S from s.

One pass over the cosines gives all of them. A tile is a matrix product and little else: the test
features carry the factor log2(e) / tau, so that a term of Eq. 6 is one power of two; only where a
group of the tile holds a cosine above the k-th best so far does the tile get a second look. Each
rank may hold a part of the bank.

Higher = more OOD.
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
"""Test features and bank features of a tile: on a CPU it stays in the cache (4 MB), and sets of
round sizes fill all of their tiles."""
BLOCK_ROWS = 16000
"""Test features that a tile of the bank meets before the next is made ready."""
LARGEST_EXPONENT = 100.0
"""2^x and sums of a tile of them fit into float32, as does 2^-x."""


@torch.no_grad()
def score(
    test: Tensor,
    bank: Tensor,
    tau: float = TAU,
    *,
    weights: Tensor | None = None,
    world: World | None = None,
    names: tuple[str, str] = NAMES,
    tile_rows: int | None = None,
    tile_bank: int | None = None,
) -> Tensor:
    """Log form of Eq. 6 alone; see `nearest_scores`.

    Args:
        test: as there.
        bank: as there.
        tau: as there.
        weights: float32 [M], > 0: how many features each of this bank stands for; Eq. 6 is then
            their weighted mean. None for one each.
        world: as there.
        names: as there.
        tile_rows: as there.
        tile_bank: as there.

    Returns:
        float64 [N] on the device of the inputs, in [-1/tau, 1/tau]. Higher = more OOD.

    Raises:
        UserError: see `nearest_scores`.
        ValueError: see there; or a weight is not a positive number, or there are not M.
    """
    tiles = _tiles(test, tile_rows, tile_bank)
    _check(test, bank, tau, 0, world, names)
    if weights is not None and not (
        weights.shape == bank.shape[:1] and bool((weights.isfinite() & (weights > 0)).all())
    ):
        raise ValueError(f"weights {list(weights.shape)} are not {len(bank)} positive numbers")
    return _sweep(test, bank, tau, 0, weights, world, tiles)[0]


@torch.no_grad()
def nearest_scores(
    test: Tensor,
    bank: Tensor,
    tau: float,
    ks: Sequence[int],
    *,
    world: World | None = None,
    names: tuple[str, str] = NAMES,
    tile_rows: int | None = None,
    tile_bank: int | None = None,
) -> dict[str, Tensor]:
    """All scores of this file, each test feature against the whole bank, in one pass.

    Features are normalised in float32 (autocast and TF32 are off in here), and so are the cosines;
    sums of more than 256 terms are in float64. A few tiles of cosines exist at a time, and the
    tiles change the scores only by rounding. All row tiles have one shape (the last is padded), so
    that equal features get equal scores wherever they stand, also in two calls with the same bank.

    Args:
        test: float32 [N, d], any length but zero, on the CPU or a CUDA device; equal on all ranks.
        bank: float32 [M, d] on the same device: this rank's part of the bank, and it may be empty.
        tau: temperature of Eq. 6, > 0.
        ks: neighbours of the k-NN scores, each from 1 to the size of the whole bank.
        world: the ranks among which the bank is shared out in order; every one of them must call
            this. None if `bank` is all of it.
        names: what an error calls `test` and `bank`.
        tile_rows: test features in a tile, >= 1; None for what suits the device.
        tile_bank: bank features in a tile, likewise.

    Returns:
        "eq6", "max-cosine" and "knn-K" of each K -> float64 [N] on the device of the inputs, the
        same on every rank. Higher = more OOD; cosine scores are in [-1, 1] but for rounding.

    Raises:
        UserError: a set is empty or holds a feature that is NaN, Inf or of zero norm (the message
            names the set and the ids), tau is not a positive number, or a k does not fit the
            bank. Raised on every rank.
        ValueError: shapes do not fit, or a tile size is below 1.
    """
    tiles = _tiles(test, tile_rows, tile_bank)
    if ks and min(ks) < 1:
        raise UserError(f"k is {min(ks)}, expected at least 1 neighbour")
    largest = max([1, *ks])
    _check(test, bank, tau, largest, world, names)
    eq6_scores, cosines = _sweep(test, bank, tau, largest, None, world, tiles)
    of_k = {"max-cosine": 1} | {f"knn-{k}": k for k in ks}
    return {"eq6": eq6_scores} | {name: -cosines[:, k - 1] for name, k in of_k.items()}


def eq6(scores: Tensor) -> Tensor:
    """Eq. 6 itself, S = -exp(-s), from the scores s that `score` returns.

    Args:
        scores: float64 [N], the log form.

    Returns:
        float64 [N], below zero; higher = more OOD, in the same order as `scores`.
    """
    return -torch.exp(-scores.double())


# ---------------------------------------------------------------------------------- the pass


@dataclass
class _Rows:
    """A tile of test features, and what the bank so far says of them."""

    queries: Tensor
    """float32 [R, d]: unit rows times log2(e) / tau."""
    log2_sum: Tensor
    """log2 of the sum of Eq. 6: float64 [R]."""
    largest: Largest
    """The k largest products."""

    def meet(self, bank_tile: Tensor, log2_weights: Tensor | None, steep: bool) -> None:
        """Take in a tile of the bank (packed [C, d])."""
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
    tiles: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Scores by Eq. 6, float64 [N], and the k largest cosines, largest first, float64 [N, k]."""
    tile_rows, tile_bank = tiles
    if test.device.type == "cpu":
        keep_memory()
    scale = math.log2(math.e) / tau
    steep = scale > LARGEST_EXPONENT or weights is not None
    log2_weights = None if weights is None else weights.float().log2()
    mass = torch.tensor(len(bank)) if weights is None else weights.sum(dtype=torch.float64)
    total = _over_ranks(mass.double().to(test.device), world).sum()
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
            log_sum = (_over_ranks(log2_sums, world) * math.log(2)).logsumexp(0)
            best = torch.cat(list(_over_ranks(largest, world)), 1).topk(k).values
            found.append((total.log() - log_sum, best.double() / scale))
    return torch.cat([scores for scores, _ in found]), torch.cat([best for _, best in found])


def _over_ranks(value: Tensor, world: World | None) -> Tensor:
    """The values of all ranks [ranks, ...], in their order, on each of them."""
    if world is None or world.world_size == 1:
        return value[None]
    values = [torch.empty_like(value) for _ in range(world.world_size)]
    dist.all_gather(values, value)
    return torch.stack(values)


def _tiles(test: Tensor, tile_rows: int | None, tile_bank: int | None) -> tuple[int, int]:
    """Rows and columns of a tile."""
    rows, columns = TILE_SHAPE[test.device.type]
    rows = rows if tile_rows is None else tile_rows
    columns = columns if tile_bank is None else tile_bank
    if min(rows, columns) < 1:
        raise ValueError(f"tile_rows, tile_bank are {rows}, {columns}, expected >= 1")
    return rows, columns


def _check(
    test: Tensor, bank: Tensor, tau: float, k: int, world: World | None, names: tuple[str, str]
) -> None:
    """Refuse what has no score; ranks refuse the bank together, or one would wait for the other."""
    if not (math.isfinite(tau) and tau > 0):
        raise UserError(f"tau is {tau}, expected a number > 0")
    if test.ndim != 2 or bank.ndim != 2 or test.shape[1] != bank.shape[1]:
        raise ValueError(
            f"test {list(test.shape)} and bank {list(bank.shape)} are not [N,d], [M,d]"
        )
    check_features(names[0], test)
    sizes = _over_ranks(torch.tensor(len(bank), device=test.device), world).tolist()
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
