"""The arithmetic of one tile of cosines: sums of powers, and what is largest in it.

Legend: R test features and C bank features of a tile, d feature width, k neighbours. All float32
but for the sums.

A product costs 2 d operations for each element, so that anything else may cost little. Elements are
therefore taken in groups: a sum of 256 is made in float32 before float64 takes over, and the
maximum of 32 says whether any of them need be looked at.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

SUMMED = 256
"""Terms of a sum in float32."""
GROUP = 32
"""Elements of which the largest is looked for first."""
KEPT_BYTES = 30 << 20
"""See `keep_memory`."""


def unit(features: Tensor, length: float = 1.0) -> Tensor:
    """Rows of that length, float32; done tile by tile, so no second copy of a set is held.

    The norms are in float64: an error of one would be in all cosines of a row, times 1/tau.
    """
    norms = torch.linalg.vector_norm(features, dim=1, keepdim=True, dtype=torch.float64)
    return features.float() * (length / norms).float()


def keep_memory() -> None:
    """Have the C library keep what a tile frees, on Linux, for the next tile.

    It gives large blocks back to the system, and faults of their pages may take as long as a
    product; but blocks as large as one that it has given back once (32 MB at most) it keeps.
    """
    np.empty(KEPT_BYTES, np.uint8)


def log2_sum(tile: Tensor, steep: bool) -> Tensor:
    """log2 of the sum of 2^x over each row of a tile.

    `torch.logsumexp` in float32 would round to 2e-6 near 25 and so make ties of images that differ:
    those of an untrained network lie close together.

    Args:
        tile: float32 [R, C]; it is used up.
        steep: whether 2^x may not fit into float32.

    Returns:
        float64 [R].
    """
    if not steep:
        return _sum(tile.exp2_()).log2()
    peak = tile.amax(1, keepdim=True)
    return _sum(tile.sub_(peak).exp2_()).log2() + peak[:, 0].double()


class Largest:
    """The k largest elements of each of R rows, of all tiles so far."""

    def __init__(self, rows: int, k: int, device: torch.device) -> None:
        """Begin with none, which are -inf."""
        self._k = k
        self._limit = torch.full((rows, 1), -math.inf, device=device)
        """No less than any that is not among the k largest."""
        self._found = [self._limit.expand(rows, k)]
        """Candidates [R, any], the k largest among them."""

    def add(self, tile: Tensor) -> None:
        """Take in [R, C], finite."""
        if self._k == 0:
            return
        grouped, rest = _grouped(tile)
        if grouped.numel() == 0 or bool((self._limit == -math.inf).any()):
            self._found.append(tile)
            self.sort_out()
            return
        # Few groups hold something larger: they are looked at, and what is larger is kept.
        row, group = (grouped.amax(1) > self._limit).nonzero(as_tuple=True)
        members = grouped[row, :, group]  # [groups, GROUP]
        which, member = (members > self._limit[row]).nonzero(as_tuple=True)
        row, larger = row[which], members[which, member]  # rows ascend
        counts = row.bincount(minlength=len(tile))
        place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        candidates = tile.new_full((len(tile), int(counts.max())), -math.inf)
        candidates[row, place] = larger
        self._found += [candidates, rest.clone()]
        if sum(part.shape[1] for part in self._found) > 3 * self._k:
            self.sort_out()

    def sort_out(self) -> Tensor:
        """Keep the k largest of the candidates: float32 [R, k] in any order."""
        largest = torch.cat(self._found, 1).topk(self._k, sorted=False).values
        if self._k:
            self._limit = largest.amin(1, keepdim=True)
        self._found = [largest]
        return largest


def _sum(terms: Tensor) -> Tensor:
    """Row sums of [R, C], float64."""
    whole = terms.shape[1] // SUMMED * SUMMED
    sums = terms[:, :whole].view(len(terms), -1, SUMMED).sum(2) if whole else terms[:, :0]
    return sums.sum(1, dtype=torch.float64) + terms[:, whole:].sum(1, dtype=torch.float64)


def _grouped(tile: Tensor) -> tuple[Tensor, Tensor]:
    """Views of [R, C]: [R, GROUP, C // GROUP], a group along the middle, and what is left over."""
    groups = tile.shape[1] // GROUP
    whole = tile[:, : groups * GROUP]
    return whole.view(len(tile), GROUP, groups), tile[:, groups * GROUP :]
