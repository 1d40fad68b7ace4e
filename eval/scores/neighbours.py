"""Which images of the bank are nearest to an image, by the cosine of their features.

Legend: N test features, M of the bank, d their width, R rows and C columns of a tile of cosines,
k neighbours.
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
"""R and C: 34 MB in float32."""


@torch.no_grad()
def nearest(test: Tensor, bank: Tensor, k: int, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
    """The k bank features with the largest cosine to each test feature.

    Args:
        test: float32 [N, d].
        bank: float32 [M, d] on the same device; no copy of it is made.
        k: neighbours, from 1 to M.
        names: what an error calls `test` and `bank`.

    Returns:
        Cosines, float32 [N, k], largest first; and the ids in the bank, int64 [N, k]. Equal ones
        come in the order of the bank; which of them come in where not all do is not said.

    Raises:
        UserError: a set is empty or holds a feature that is NaN, Inf or of zero norm, or k does not
            fit the bank.
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
    """The k largest of each row of [R, C], or all, and their places.

    They are in the k groups with the largest maxima, so that few elements need be sorted.
    """
    groups = tile.shape[1] // GROUP
    if groups <= k:
        return tile.topk(min(k, tile.shape[1]), dim=1)
    # A group is a column of [GROUP, groups]: maxima along rows are quick.
    grouped = tile[:, : groups * GROUP].view(len(tile), GROUP, groups)
    best = grouped.amax(1).topk(k, dim=1).indices
    members = grouped.gather(2, best[:, None].expand(-1, GROUP, -1)).flatten(1)  # [R, GROUP * k]
    rows = torch.arange(GROUP, device=tile.device)[:, None] * groups
    places = (rows + best[:, None]).flatten(1)
    rest = torch.arange(groups * GROUP, tile.shape[1], device=tile.device).expand(len(tile), -1)
    values, chosen = torch.cat([members, tile[:, groups * GROUP :]], 1).topk(k, dim=1)
    return values, torch.cat([places, rest], 1).gather(1, chosen)


def _in_order(cosines: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of [R, any], or all, by cosine and then by id."""
    ids, order = ids.sort(dim=1)
    cosines, by_cosine = cosines.gather(1, order).sort(dim=1, descending=True, stable=True)
    return cosines[:, :k], ids.gather(1, by_cosine)[:, :k]
