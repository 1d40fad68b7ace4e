"""Fitted scores of scikit-learn, as torch modules: isolation forest and local outlier factor.

Legend: N features that are scored, M features of the bank, d feature width.
"""

from __future__ import annotations

import numpy as np
import sklearn.ensemble
import sklearn.neighbors
import torch
from torch import Tensor

from eval.scores.bank import Bank
from eval.scores.fitted import FittedScore, ProductScore

TREES = 200
SEED = 0
"""Seed of the forest."""
NEIGHBOURS = 20
"""Largest number of neighbours of the local outlier factor, which is scikit-learn's default."""
EULER = 0.5772156649015329
"""The Euler-Mascheroni constant."""


class IsolationForest(FittedScore):
    """scikit-learn's isolation forest (Liu, Ting and Zhou 2008): the negated `score_samples`.

    The trees are tensors of nodes. A leaf is its own child, so all features take as many steps as
    the deepest tree has levels.
    """

    feature: Tensor
    threshold: Tensor
    child: Tensor
    depth: Tensor
    roots: Tensor

    def __init__(self, forest: sklearn.ensemble.IsolationForest) -> None:
        """Copy the trees of a fitted forest."""
        super().__init__()
        feature, threshold, children, depth, roots = [], [], [], [], []
        first, levels = 0, 0
        chosen = zip(forest.estimators_, forest.estimators_features_, strict=True)
        for estimator, columns in chosen:
            tree = estimator.tree_
            own = np.arange(tree.node_count)
            is_leaf = tree.children_left < 0
            sides = np.stack([tree.children_left, tree.children_right], 1)
            children.append(np.where(is_leaf[:, None], own[:, None], sides) + first)
            feature.append(columns[np.where(is_leaf, 0, tree.feature)])
            threshold.append(tree.threshold)
            level = _levels(tree.children_left, tree.children_right)
            depth.append(level + _average_path(tree.n_node_samples))
            roots.append(first)
            first, levels = first + tree.node_count, max(levels, int(level.max()))
        self._levels = levels
        # A path length is divided by the number of trees, and by the mean length of a search.
        scale = len(roots) * _average_path(np.array([forest.max_samples_]))[0]
        self._is_flat = scale == 0
        # Features are float32, and x <= t holds for the same x if t is rounded down to float32.
        self.register_buffer(
            "threshold", torch.from_numpy(_rounded_down(np.concatenate(threshold)))
        )
        self.register_buffer("feature", torch.from_numpy(np.concatenate(feature)).long())
        self.register_buffer("child", torch.from_numpy(np.concatenate(children)).long())
        lengths = np.concatenate(depth) / (scale or 1)
        self.register_buffer("depth", torch.from_numpy(lengths).float())
        self.register_buffer("roots", torch.tensor(roots))

    @classmethod
    def fit(cls, bank: Bank) -> IsolationForest:
        """Fit a forest of 200 trees on a bank.

        Raises:
            UnfitError: see `Bank.check`.
        """
        bank.check()
        forest = sklearn.ensemble.IsolationForest(n_estimators=TREES, random_state=SEED)
        return cls(forest.fit(bank.features.cpu().numpy())).to(bank.features.device)

    def forward(self, features: Tensor) -> Tensor:
        """Return the scores, float32 [N], in [0, 1]."""
        node = self.roots.expand(features.shape[0], -1)  # [N, trees]
        for _ in range(self._levels):
            goes_right = features.gather(1, self.feature[node]) > self.threshold[node]
            node = torch.where(goes_right, self.child[node, 1], self.child[node, 0])
        if self._is_flat:
            return torch.ones_like(features[:, 0])
        return torch.exp2(-self.depth[node].sum(1))


class LocalOutlierFactor(ProductScore):
    """scikit-learn's local outlier factor (Breunig et al. 2000): the negated `score_samples`.

    It compares the density of the bank around a feature with the densities around its neighbours.
    """

    k_distance: Tensor
    density: Tensor

    def __init__(self, bank: Bank, fitted: sklearn.neighbors.LocalOutlierFactor) -> None:
        """Copy the distances and densities of a fitted factor."""
        super().__init__(bank.products)
        self._k = int(fitted.n_neighbors_)
        device = bank.features.device
        # Private, but the only place that has them; tests compare with score_samples.
        k_distance = fitted._distances_fit_X_[:, self._k - 1]
        for name, values in (("k_distance", k_distance), ("density", fitted._lrd)):
            self.register_buffer(name, torch.from_numpy(np.asarray(values)).float().to(device))

    @classmethod
    def fit(cls, bank: Bank) -> LocalOutlierFactor:
        """Fit the factor on a bank, with 20 neighbours, or M - 1 if M is smaller.

        Raises:
            UnfitError: see `Bank.check`.
        """
        bank.check(3)
        count = min(NEIGHBOURS, len(bank.features) - 1)
        fitted = sklearn.neighbors.LocalOutlierFactor(n_neighbors=count, novelty=True)
        return cls(bank, fitted.fit(bank.features.cpu().numpy()))

    def from_products(self, squares: Tensor, products: Tensor) -> Tensor:
        """Return the scores, float32 [N]. About 1 for a feature as densely surrounded as others."""
        to_bank = self.products.distances(squares, products)
        nearest, ids = to_bank.topk(self._k, dim=1, largest=False)
        reach = torch.maximum(nearest, self.k_distance[ids]).mean(1)
        return self.density[ids].mean(1) * (reach + 1e-10)


def _levels(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the level of each node of a tree, int64 [nodes]. The root has level 0."""
    level = np.zeros(len(left), np.int64)
    for node in range(len(left)):  # a node comes before its children
        if left[node] >= 0:
            level[left[node]] = level[right[node]] = level[node] + 1
    return level


def _average_path(samples: np.ndarray) -> np.ndarray:
    """Return the mean length of an unsuccessful search among n samples: c(n) of Liu et al. (2008).

    Args:
        samples: n, int [k].
    """
    count = samples.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = 2 * (np.log(count - 1) + EULER) - 2 * (count - 1) / count
    return np.where(count <= 1, 0.0, np.where(count == 2, 1.0, mean))


def _rounded_down(values: np.ndarray) -> np.ndarray:
    """Return the largest float32 values that are not above `values`, float64."""
    rounded = values.astype(np.float32)
    return np.where(rounded > values, np.nextafter(rounded, np.float32(-np.inf)), rounded)
