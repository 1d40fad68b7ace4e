"""A collection of near pairs whose size grows with the number of images, not with that of pairs.

Images of a camera that does not move are all near each other: 10,000 images in each of two sets
make 100 million pairs. So only the minimum spanning forest of the pairs is kept: images are the
nodes, pairs are the edges, and the difference of a pair is the weight of its edge. The forest
connects the images into the same groups as all pairs do, and it contains the closest pair of each
image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

HELD_PAIRS = 1 << 20
"""The number of pairs that are collected before they are reduced to their minimum spanning forest
(about 30 MB)."""


@dataclass(frozen=True)
class Matches:
    """M pairs, each of an image of set A and an image of set B."""

    images: np.ndarray
    """int32 [M, 2]: the indexes of both images, in the `Fingerprints` of A and in those of B."""
    exact: np.ndarray
    """bool [M]: True for pairs whose images have the same size, number of channels and pixels."""
    hash_bits: np.ndarray
    """uint8 [M]: the number of bits in which the perceptual hashes of the pair differ."""
    pixel_levels: np.ndarray
    """float64 [M]: the mean absolute difference of the pixels of the pair, in levels of 0..255,
    rounded to two decimals."""

    def __len__(self) -> int:
        """Return the number of pairs, M."""
        return len(self.exact)

    def take(self, order: np.ndarray) -> Matches:
        """Return the pairs that `order` selects: indexes in that order, or a mask, bool [M]."""
        return Matches(*(getattr(self, field.name)[order] for field in fields(self)))

    def groups(self) -> np.ndarray:
        """Return the group number of each pair, int64 [M].

        Each exact pair is a separate group. Near pairs that share an image are in the same group.
        Groups are numbered from 0 in the order in which they first occur.
        """
        from scipy.sparse.csgraph import connected_components

        labels = np.arange(len(self))
        near = np.flatnonzero(~self.exact)
        if len(near):
            graph = _graph(self.images[near], np.ones(len(near)))
            nodes = connected_components(graph, directed=False)[1]
            rows = np.unique(self.images[near, 0], return_inverse=True)[1]
            # A group is labelled with the index of its first pair.
            _, first, group = np.unique(nodes[rows], return_index=True, return_inverse=True)
            labels[near] = near[first][group]
        return np.unique(labels, return_inverse=True)[1]

    @staticmethod
    def joined(parts: Sequence[Matches]) -> Matches:
        """Join collections of pairs, in order. There must be at least one collection."""
        names = [field.name for field in fields(Matches)]
        return Matches(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


class NearPairs:
    """A collection of near pairs, reduced to their minimum spanning forest when it grows large.

    Each pair may be added only once.
    """

    def __init__(self, a_ids: np.ndarray, b_ids: np.ndarray) -> None:
        """Start with an empty collection.

        The sample ids decide which of several equally close pairs is kept: the pair with the
        smaller ids.

        Args:
            a_ids: The id of the first sample of each image of set A, int64.
            b_ids: The id of the first sample of each image of set B, int64.
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
        """Add near pairs to the collection; exact pairs are not allowed."""
        self._parts.append(pairs)
        self._held += len(pairs)
        if self._held > self._most:
            self.thin()

    def thin(self) -> None:
        """Keep only the pairs of the minimum spanning forest, and drop all other pairs."""
        # Imported here, because scipy takes half a second to import and --help needs none of it.
        from scipy.sparse.csgraph import minimum_spanning_tree

        pairs = self.pairs()
        ids = [of_set[images] for of_set, images in zip(self._ids, pairs.images.T, strict=True)]
        pairs = pairs.take(np.lexsort((ids[1], ids[0], pairs.hash_bits, pairs.pixel_levels)))
        # The weights are the ranks of the pairs. All ranks differ, so the forest is unique.
        forest = minimum_spanning_tree(_graph(pairs.images, np.arange(1.0, len(pairs) + 1)))
        pairs = pairs.take(np.sort(forest.data).astype(np.int64) - 1)
        self._parts, self._held = [pairs], len(pairs)
        self._most = HELD_PAIRS + 2 * len(pairs)

    def pairs(self) -> Matches:
        """Return all pairs that are in the collection now."""
        return Matches.joined(self._parts)


def _graph(images: np.ndarray, weights: np.ndarray) -> csr_matrix:
    """Return the graph of pairs as a sparse matrix.

    Args:
        images: The pairs, int [M, 2], as in `Matches.images`.
        weights: The weight of each pair, [M].

    Returns:
        A square matrix with one row per node. The nodes are the images of A that occur in a pair,
        and then the images of B that occur in a pair. The pairs are the edges.
    """
    from scipy.sparse import csr_matrix

    (a, rows), (b, columns) = (np.unique(side, return_inverse=True) for side in images.T)
    nodes = len(a) + len(b)
    return csr_matrix((weights, (rows, len(a) + columns)), shape=(nodes, nodes))
