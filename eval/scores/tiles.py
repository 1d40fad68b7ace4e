"""Arithmetic on one tile of cosines: sums of powers of two, and the largest elements.

Legend: R test features and C bank features of a tile, d feature width, k neighbours. Everything is
float32 except the sums.

The matrix product costs 2 d operations per element, so everything else must cost little. Elements
are therefore handled in groups. A sum of 256 elements is in float32, and such sums are added in
float64. The maximum of a group of 32 elements shows whether the group can hold one of the k largest
elements.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

SUMMED = 256
"""Number of terms in a float32 sum. Longer sums add such sums in float64."""
GROUP = 32
"""Number of elements in a group. The maximum of each group is computed before its elements are
looked at."""
KEPT_BYTES = 30 << 20
"""Size in bytes of the block of memory that `keep_memory` allocates and frees."""


def unit(features: Tensor, length: float = 1.0) -> Tensor:
    """Scale each row to the norm `length`.

    This function is called for one tile at a time, so that no second copy of a set is in memory.
    The norms are in float64, because the relative error of a norm changes all cosines of its row,
    and Eq. 6 multiplies cosines with 1/tau.

    Args:
        features: [R, d], rows of nonzero norm.
        length: norm of the returned rows.

    Returns:
        float32 [R, d].
    """
    norms = torch.linalg.vector_norm(features, dim=1, keepdim=True, dtype=torch.float64)
    return features.float() * (length / norms).float()


def keep_memory() -> None:
    """Make the C library keep the memory of a tile for the next tile, on Linux.

    By default, the C library returns large blocks to the system. The page faults of new blocks may
    then take as long as a matrix product. After the library has returned one block (of 32 MB at
    most), it keeps all blocks up to that size.
    """
    np.empty(KEPT_BYTES, np.uint8)


def log2_sum(tile: Tensor, steep: bool) -> Tensor:
    """Return log2 of the sum of 2^x over each row of a tile.

    `torch.logsumexp` in float32 would round results near 25 to multiples of 2e-6. Images of an
    untrained network can have scores that differ by less, and these scores would become equal.

    Args:
        tile: float32 [R, C]. It is overwritten.
        steep: True if 2^x may not fit into float32. The maximum of each row is then subtracted from
            x.

    Returns:
        float64 [R].
    """
    if not steep:
        return _sum(tile.exp2_()).log2()
    peak = tile.amax(1, keepdim=True)
    return _sum(tile.sub_(peak).exp2_()).log2() + peak[:, 0].double()


class Largest:
    """The k largest elements of each of R rows, over all tiles so far."""

    def __init__(self, rows: int, k: int, device: torch.device) -> None:
        """Start with k elements in each row, all -inf."""
        self._k = k
        self._limit = torch.full((rows, 1), -math.inf, device=device)
        """The k-th largest element of each row when the candidates were last sorted, [R, 1]."""
        self._found = [self._limit.expand(rows, k)]
        """Parts [R, any] that together contain the k largest elements of each row."""

    def add(self, tile: Tensor) -> None:
        """Add the elements of a tile, float32 [R, C]. All elements must be finite."""
        if self._k == 0:
            return
        grouped, rest = _grouped(tile)
        if grouped.numel() == 0 or bool((self._limit == -math.inf).any()):
            self._found.append(tile)
            self.sort_out()
            return
        # Few groups have a maximum above the limit. In these groups, elements above it are kept.
        row, group = (grouped.amax(1) > self._limit).nonzero(as_tuple=True)
        members = grouped[row, :, group]  # [groups, GROUP]
        which, member = (members > self._limit[row]).nonzero(as_tuple=True)
        row, larger = row[which], members[which, member]  # `row` is in ascending order
        counts = row.bincount(minlength=len(tile))
        place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        candidates = tile.new_full((len(tile), int(counts.max())), -math.inf)
        candidates[row, place] = larger
        self._found += [candidates, rest.clone()]
        if sum(part.shape[1] for part in self._found) > 3 * self._k:
            self.sort_out()

    def sort_out(self) -> Tensor:
        """Drop all candidates except the k largest of each row.

        Returns:
            The k largest candidates, float32 [R, k], in any order.
        """
        largest = torch.cat(self._found, 1).topk(self._k, sorted=False).values
        if self._k:
            self._limit = largest.amin(1, keepdim=True)
        self._found = [largest]
        return largest


def _sum(terms: Tensor) -> Tensor:
    """Return the sum of each row of [R, C], float64 [R]."""
    whole = terms.shape[1] // SUMMED * SUMMED
    sums = terms[:, :whole].view(len(terms), -1, SUMMED).sum(2) if whole else terms[:, :0]
    return sums.sum(1, dtype=torch.float64) + terms[:, whole:].sum(1, dtype=torch.float64)


def _grouped(tile: Tensor) -> tuple[Tensor, Tensor]:
    """Divide the columns of a tile [R, C] into groups, without a copy.

    Returns:
        The whole groups, [R, GROUP, C // GROUP], where a group lies along axis 1. Then the
        remaining columns, [R, C % GROUP].
    """
    groups = tile.shape[1] // GROUP
    whole = tile[:, : groups * GROUP]
    return whole.view(len(tile), GROUP, groups), tile[:, groups * GROUP :]
