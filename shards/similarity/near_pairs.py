"""A collection of near pairs whose size grows with the number of images, not of pairs.

With a camera that does not move, every picture is near every other: 10,000 pictures in each of two
sets make 100 million pairs. Only their minimum spanning forest is kept. It joins the images to the
same groups as all pairs do, and it contains the closest pair of each image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

HELD_PAIRS = 1 << 20
"""Pairs that are added before they are thinned (about 30 MB)."""


@dataclass(frozen=True)
class Matches:
    """M pairs of an image of set A and an image of set B."""

    images: np.ndarray
    """Indexes of the two images in the `Fingerprints` of A and of B: int32 [M,2]."""
    exact: np.ndarray
    """True for pairs of equal size, channels and pixels: bool [M]."""
    hash_bits: np.ndarray
    """Number of different bits of the hash: uint8 [M]."""
    pixel_levels: np.ndarray
    """Mean absolute difference of the pixels, 0..255, rounded to hundredths: float64 [M]."""

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.exact)

    def take(self, order: np.ndarray) -> Matches:
        """Return the pairs at the places `order`."""
        return Matches(*(getattr(self, field.name)[order] for field in fields(self)))

    def groups(self) -> np.ndarray:
        """Return the number of each pair's group, in the order of first appearance: int64 [M].

        An exact pair is a group of its own; near pairs with a common image are in one group.
        """
        from scipy.sparse.csgraph import connected_components

        labels = np.arange(len(self))
        near = np.flatnonzero(~self.exact)
        if len(near):
            graph = _graph(self.images[near], np.ones(len(near)))
            nodes = connected_components(graph, directed=False)[1]
            rows = np.unique(self.images[near, 0], return_inverse=True)[1]
            # A group is known by its first pair.
            _, first, group = np.unique(nodes[rows], return_index=True, return_inverse=True)
            labels[near] = near[first][group]
        return np.unique(labels, return_inverse=True)[1]

    @staticmethod
    def joined(parts: Sequence[Matches]) -> Matches:
        """The pairs of all parts, of which there is at least one."""
        names = [field.name for field in fields(Matches)]
        return Matches(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


class NearPairs:
    """Collects near pairs, each added once, and thins them when there are many."""

    def __init__(self, a_ids: np.ndarray, b_ids: np.ndarray) -> None:
        """Start without pairs.

        Args:
            a_ids: The first sample of each image of A, int64; among equally close pairs the pair
                with the smaller ids comes first.
            b_ids: The first sample of each image of B, int64.
        """
        self._ids = a_ids, b_ids
        nothing = np.zeros(0)
        self._parts = [
            Matches(
                np.zeros((0, 2), np.int32), nothing.astype(bool), nothing.astype(np.uint8), nothing
            )
        ]
        self._held = 0
        self._most = HELD_PAIRS

    def add(self, pairs: Matches) -> None:
        """Add pairs that are not exact."""
        self._parts.append(pairs)
        self._held += len(pairs)
        if self._held > self._most:
            self.thin()

    def thin(self) -> None:
        """Keep only the minimum spanning forest of the pairs."""
        # Imported here, because scipy takes half a second to import and --help needs none of it.
        from scipy.sparse.csgraph import minimum_spanning_tree

        pairs = self.pairs()
        ids = [of_set[images] for of_set, images in zip(self._ids, pairs.images.T, strict=True)]
        pairs = pairs.take(np.lexsort((ids[1], ids[0], pairs.hash_bits, pairs.pixel_levels)))
        # The weights are ranks; no two are equal, so the forest is unique.
        forest = minimum_spanning_tree(_graph(pairs.images, np.arange(1.0, len(pairs) + 1)))
        pairs = pairs.take(np.sort(forest.data).astype(np.int64) - 1)
        self._parts, self._held = [pairs], len(pairs)
        self._most = HELD_PAIRS + 2 * len(pairs)

    def pairs(self) -> Matches:
        """Return all pairs that are held."""
        return Matches.joined(self._parts)


def _graph(images: np.ndarray, weights: np.ndarray) -> csr_matrix:
    """Return a graph: the images of A in any pair, then of B, are nodes, and pairs are edges."""
    from scipy.sparse import csr_matrix

    (a, rows), (b, columns) = (np.unique(side, return_inverse=True) for side in images.T)
    nodes = len(a) + len(b)
    return csr_matrix((weights, (rows, len(a) + columns)), shape=(nodes, nodes))
