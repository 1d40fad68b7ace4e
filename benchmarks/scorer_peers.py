"""The peers of `benchmarks.scorer`: ours, the matrix products alone, and other libraries."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks.options import ScorerOptions
from eval.scores.cosine import nearest_scores, score
from eval.scores.tiles import keep_memory
from train.networks.onednn import packed, product
from train.world import pick_device

CENTRES = 20
"""Number of centres of the features."""
SHARED_EVERY = 100
"""Every test feature whose index is a multiple of this number is also in the bank."""
CHUNK = 1000
"""Number of test features in a chunk of the function `chunked`."""
SEARCH_BANK = 8192
"""Number of bank features with which the tile shapes are tried, with all test features."""
TILE_ROWS = {"cpu": (500, 2048), "cuda": (2048, 8192)}
TILE_BANK = {"cpu": (1024, 2048, 8192), "cuda": (4096, 8192, 16384)}
"""Numbers of rows and of columns of the tiles that are tried, per type of device. The shape of our
scorer's tiles is one of the combinations."""


def features(options: ScorerOptions, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return test and bank features, float32 [N, d] and [M, d].

    Every hundredth test feature is also in the bank.
    """
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(CENTRES, options.width, generator=rng)
    sets = []
    for count in (options.test, options.bank):
        which = torch.randint(CENTRES, (count,), generator=rng)
        sets.append(torch.randn(count, options.width, generator=rng).add_(centres[which]))
    test, bank = sets
    shared = test[::SHARED_EVERY]
    shared.copy_(bank[: len(shared)])
    return test.to(device), bank.to(device)


Peer = Callable[[Tensor, Tensor], object]
"""A peer: a function that takes test features [N, d] and bank features [M, d]."""


class Peers:
    """All peers by name, and their features."""

    def __init__(self, options: ScorerOptions) -> None:
        """Make the features, and find the fastest tile shape of each product."""
        self._options = options
        self.device = pick_device(options.device)
        self.test, self.bank = features(options, self.device)
        tau, k = options.tau, options.k
        keep_memory()  # for all peers
        self.tiles: dict[str, str] = {}
        self.run: dict[str, Peer] = {}
        products = {"mm": by_mm} | ({"oneDNN": by_onednn} if self.device.type == "cpu" else {})
        for name, multiply in products.items():
            self.tiles[name], self.run[name] = self._best(multiply)
        self.run |= {
            "eq6": lambda test, bank: score(test, bank, tau),
            "all": lambda test, bank: nearest_scores(test, bank, tau, [k]),
            "chunked": lambda test, bank: chunked(test, bank, tau),
        }
        if self.device.type == "cpu":
            self.run["sklearn"] = lambda test, bank: by_sklearn(test.numpy(), bank.numpy(), tau)
            self.run["faiss"] = lambda test, bank: by_faiss(test.numpy(), bank.numpy(), k)
        for run in self.run.values():  # a first, small run loads the libraries
            run(self.test[:100], self.bank[: 2 * k])

    def seconds(self, name: str) -> float:
        """Run a peer once on all features, and return its time in seconds."""
        return self._seconds(self.run[name], self.test, self.bank)

    def _seconds(self, run: Peer, test: Tensor, bank: Tensor) -> float:
        started_s = self._now_s()
        run(test, bank)
        return self._now_s() - started_s

    def _now_s(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() if self._options.clock == "wall" else time.process_time()

    def _best(self, multiply: Callable[..., None]) -> tuple[str, Peer]:
        """Return the fastest tile shape of a product, as text, and the peer that uses this shape.

        Each shape is timed three times on a part of the bank, and its shortest time counts.
        """
        found: list[tuple[float, str, Peer]] = []
        kind = self.device.type
        for rows, columns in itertools.product(TILE_ROWS[kind], TILE_BANK[kind]):
            peer = functools.partial(multiply, tile_rows=rows, tile_bank=columns)
            seconds = [self._seconds(peer, self.test, self.bank[:SEARCH_BANK]) for _ in range(3)]
            found.append((min(seconds), f"{rows} x {columns}", peer))
        return min(found, key=lambda tried: tried[0])[1:]


def by_mm(test: Tensor, bank: Tensor, tile_rows: int, tile_bank: int) -> None:
    """Multiply all test features with all bank features by torch.mm, each tile into one buffer."""
    buffer = torch.empty(tile_rows * tile_bank, device=test.device)
    for columns in bank.split(tile_bank):
        for rows in test.split(tile_rows):
            out = buffer[: len(rows) * len(columns)].view(len(rows), len(columns))
            torch.mm(rows, columns.T, out=out)


def by_onednn(test: Tensor, bank: Tensor, tile_rows: int, tile_bank: int) -> None:
    """Multiply all test features with all bank features, with the function that our scorer uses."""
    rows = test.split(tile_rows)
    for columns in map(packed, bank.split(tile_bank)):
        for part in rows:
            product(part, columns)


def chunked(test: Tensor, bank: Tensor, tau: float) -> Tensor:
    """Return -S of Eq. 6 for each test feature, [N], computed in chunks of test features."""
    test, bank = F.normalize(test), F.normalize(bank)
    return torch.cat([(rows @ bank.T / tau).exp().mean(1) for rows in test.split(CHUNK)])


def by_sklearn(test: np.ndarray, bank: np.ndarray, tau: float) -> np.ndarray:
    """Return -S of Eq. 6 for each test feature, [N], computed with scikit-learn and numpy."""
    from sklearn.metrics.pairwise import cosine_similarity

    return np.exp(cosine_similarity(test, bank) / tau).mean(1)


def by_faiss(test: np.ndarray, bank: np.ndarray, k: int) -> np.ndarray:
    """Return the k largest cosines of each test feature, [N, k], computed with faiss."""
    import faiss

    test, bank = test.copy(), bank.copy()
    faiss.normalize_L2(test)
    faiss.normalize_L2(bank)
    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(bank)
    return index.search(test, k)[0]


@contextmanager
def same_threads(threads: int) -> Iterator[None]:
    """Give torch, numpy, scikit-learn and faiss `threads` threads in a block. 0 changes nothing."""
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
        import faiss  # noqa: F401  (loaded before the limit is set)
    with threadpool_limits(threads or None):
        yield
    torch.set_num_threads(before)
