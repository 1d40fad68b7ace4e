"""Nearest neighbours: for each test feature, the features of the bank with the largest cosines.

Legend: N test features, M features of the bank, d feature width, R rows and C columns of a tile of
cosines, k neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eval.features.checks import check_features
from eval.features.full_float32 import full_float32
from eval.scores.tiles import GROUP, unit
from shards.errors import UserError
from train.networks.onednn import packed, product

TILE_ROWS, TILE_COLUMNS = 512, 16_384
"""R and C of a tile. A tile in float32 takes 34 MB."""


@torch.no_grad()
def nearest(test: Tensor, bank: Tensor, k: int, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
    """Find the k features of the bank with the largest cosines to each test feature.

    Args:
        test: test features, float32 [N, d].
        bank: features of the bank, float32 [M, d] on the same device. The bank is not copied.
        k: number of neighbours, from 1 to M.
        names: names of `test` and `bank` for error messages.

    Returns:
        The cosines, float32 [N, k], in descending order, and the ids of the neighbours in the bank,
        int64 [N, k]. Neighbours with equal cosines are in the order of their ids. If several
        features tie for the last places among the k, it is not defined which of them are returned.

    Raises:
        UserError: a set is empty or has a feature that is NaN, Inf or of zero norm, or k is below 1
            or larger than M.
    """
    for name, features in zip(names, (test, bank), strict=True):
        check_features(name, features)
    if k < 1:
        raise UserError(f"k is {k}, expected at least 1 neighbour")
    if k > len(bank):
        raise UserError(f"{names[1]}: {len(bank)} features, too few for {k} neighbours")
    with full_float32(), torch.autocast(test.device.type, enabled=False):
        queries = [unit(rows) for rows in test.split(TILE_ROWS)]
        found = [
            (rows.new_empty(len(rows), 0), rows.new_empty(len(rows), 0, dtype=torch.int64))
            for rows in queries
        ]
        for first in range(0, len(bank), TILE_COLUMNS):
            bank_tile = packed(unit(bank[first : first + TILE_COLUMNS]))
            for i, rows in enumerate(queries):
                values, places = _largest(product(rows, bank_tile), k)
                cosines = torch.cat([found[i][0], values], 1)
                ids = torch.cat([found[i][1], first + places], 1)
                found[i] = _in_order(cosines, ids, k)
    return torch.cat([cosines for cosines, _ in found]), torch.cat([ids for _, ids in found])


def _largest(tile: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k largest elements of each row of a tile [R, C], or all elements if C < k.

    The k largest elements are in the k groups with the largest maxima, so few elements are sorted.

    Returns:
        The elements, float32 [R, min(k, C)], and their columns, int64 of the same shape.
    """
    groups = tile.shape[1] // GROUP
    if groups <= k:
        return tile.topk(min(k, tile.shape[1]), dim=1)
    # A group is a column of [GROUP, groups], because maxima along axis 1 are fast.
    grouped = tile[:, : groups * GROUP].view(len(tile), GROUP, groups)
    best = grouped.amax(1).topk(k, dim=1).indices
    members = grouped.gather(2, best[:, None].expand(-1, GROUP, -1)).flatten(1)  # [R, GROUP * k]
    rows = torch.arange(GROUP, device=tile.device)[:, None] * groups
    places = (rows + best[:, None]).flatten(1)
    rest = torch.arange(groups * GROUP, tile.shape[1], device=tile.device).expand(len(tile), -1)
    values, chosen = torch.cat([members, tile[:, groups * GROUP :]], 1).topk(k, dim=1)
    return values, torch.cat([places, rest], 1).gather(1, chosen)


def _in_order(cosines: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Sort the candidates of each row by cosine, then by id, and return the first k.

    Args:
        cosines: float32 [R, n].
        ids: int64 [R, n].
        k: number of candidates to keep.

    Returns:
        The sorted cosines and ids, each [R, min(k, n)].
    """
    ids, order = ids.sort(dim=1)
    cosines, by_cosine = cosines.gather(1, order).sort(dim=1, descending=True, stable=True)
    return cosines[:, :k], ids.gather(1, by_cosine)[:, :k]
