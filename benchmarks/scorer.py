"""What the scores cost, beside the matrix product that they need and other ways to them.

All peers take turns in one process, on the same normal features around a few centres:

    mm, oneDNN  the cosines alone: float32 products of tiles by torch.mm, into one buffer, and by
                oneDNN (CPU only), each in the fastest of several shapes of tiles
    eq6         ours, Eq. 6 alone
    all         ours: Eq. 6, maximum cosine and k-NN in one pass
    chunked     Eq. 6 as one writes it: chunks of 1,000 test features against the whole bank
    sklearn     scikit-learn's cosine_similarity, then numpy's exp and mean (CPU only)
    faiss       k-NN alone: an exact faiss IndexFlatIP, built and searched (CPU only)

All of them get the same threads. Then the error of Eq. 6 against float64, and the memory that all
scores take above their inputs, in a process of its own on a CPU. One line of JSON at the end;
ratios are medians over the rounds, with least and largest.
"""

from __future__ import annotations

import functools
import itertools
import json
import multiprocessing
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks.rounds import chosen, in_turn, ratio
from eval.scores.cosine import eq6, nearest_scores, score
from eval.scores.tiles import keep_memory
from shards.errors import UserError
from shards.terminal import cli
from train.networks.onednn import packed, product
from train.world import pick_device

CENTRES = 20
SHARED_EVERY = 100
CHUNK = 1000
ERROR_ROWS = 500
"""Test features whose Eq. 6 is computed in float64 too."""
SEARCH_BANK = 8192
"""Bank features for which the shapes of tiles are tried, with all test features."""
TILE_ROWS = {"cpu": (500, 2048), "cuda": (2048, 8192)}
TILE_BANK = {"cpu": (1024, 2048, 8192), "cuda": (4096, 8192, 16384)}
"""The scorer's own shape is among them."""

PRODUCT = "product"
"""The faster of the two in each round."""
RATIOS = (
    ("gemm_fraction", PRODUCT, "eq6"),
    ("gemm_fraction_all", PRODUCT, "all"),
    ("ratio_mm", "mm", "eq6"),
    ("ratio_chunked", "chunked", "eq6"),
    ("ratio_sklearn", "sklearn", "eq6"),
    ("ratio_faiss_knn", "faiss", "all"),
    ("cost_of_all", "all", "eq6"),
)
"""Name, and whose seconds over whose. `faiss` has our k-NN and Eq. 6 against its k-NN alone."""


@dataclass(frozen=True)
class ScorerRequest:
    """What is measured."""

    test: int = 10_000
    """Test features."""
    bank: int = 50_000
    """Features of the bank."""
    width: int = 384
    """Length of a feature."""
    k: int = 50
    """Neighbours of the k-NN score."""
    tau: float = 0.04
    """Temperature of Eq. 6."""
    rounds: int = 3
    """Turns of all peers."""
    peers: tuple[str, ...] = ()
    """Only these, `oneDNN` and `eq6` say: more rounds of them in the same time. By default all."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    """Of every peer on a CPU; 0 for as many as there are cores."""
    clock: Literal["wall", "cpu"] = "wall"
    """`cpu` counts the seconds that this process computes: of one thread on a busy machine."""


def features(request: ScorerRequest, device: torch.device) -> tuple[Tensor, Tensor]:
    """Test and bank: float32 [N, d], [M, d]; every hundredth of test is also in the bank."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(CENTRES, request.width, generator=draw)
    sets = []
    for count in (request.test, request.bank):
        which = torch.randint(CENTRES, (count,), generator=draw)
        sets.append(torch.randn(count, request.width, generator=draw).add_(centres[which]))
    test, bank = sets
    shared = test[::SHARED_EVERY]
    shared.copy_(bank[: len(shared)])
    return test.to(device), bank.to(device)


Peer = Callable[[Tensor, Tensor], object]
"""Takes test and bank."""


class Peers:
    """What is timed, by name."""

    def __init__(self, request: ScorerRequest) -> None:
        """Make the features, and find the best product."""
        self._request = request
        self.device = pick_device(request.device)
        self.test, self.bank = features(request, self.device)
        tau, k = request.tau, request.k
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
        for run in self.run.values():  # so that no library is loaded in its turn
            run(self.test[:100], self.bank[: 2 * k])

    def seconds(self, name: str) -> float:
        """One turn of a peer."""
        return self._seconds(self.run[name], self.test, self.bank)

    def _seconds(self, run: Peer, test: Tensor, bank: Tensor) -> float:
        started_s = self._now_s()
        run(test, bank)
        return self._now_s() - started_s

    def _now_s(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() if self._request.clock == "wall" else time.process_time()

    def _best(self, multiply: Callable[..., None]) -> tuple[str, Peer]:
        """The fastest shape of tiles on a part of the bank, by the best time of three each."""
        found: list[tuple[float, str, Peer]] = []
        kind = self.device.type
        for rows, columns in itertools.product(TILE_ROWS[kind], TILE_BANK[kind]):
            peer = functools.partial(multiply, tile_rows=rows, tile_bank=columns)
            seconds = [self._seconds(peer, self.test, self.bank[:SEARCH_BANK]) for _ in range(3)]
            found.append((min(seconds), f"{rows} x {columns}", peer))
        return min(found, key=lambda tried: tried[0])[1:]


def by_mm(test: Tensor, bank: Tensor, tile_rows: int, tile_bank: int) -> None:
    """All products, each tile into the same buffer."""
    buffer = torch.empty(tile_rows * tile_bank, device=test.device)
    for columns in bank.split(tile_bank):
        for rows in test.split(tile_rows):
            out = buffer[: len(rows) * len(columns)].view(len(rows), len(columns))
            torch.mm(rows, columns.T, out=out)


def by_onednn(test: Tensor, bank: Tensor, tile_rows: int, tile_bank: int) -> None:
    """All products, by what the scorer itself multiplies with."""
    rows = test.split(tile_rows)
    for columns in map(packed, bank.split(tile_bank)):
        for part in rows:
            product(part, columns)


def chunked(test: Tensor, bank: Tensor, tau: float) -> Tensor:
    """S of Eq. 6, without its sign."""
    test, bank = F.normalize(test), F.normalize(bank)
    return torch.cat([(rows @ bank.T / tau).exp().mean(1) for rows in test.split(CHUNK)])


def by_sklearn(test: np.ndarray, bank: np.ndarray, tau: float) -> np.ndarray:
    """S of Eq. 6, without its sign."""
    from sklearn.metrics.pairwise import cosine_similarity

    return np.exp(cosine_similarity(test, bank) / tau).mean(1)


def by_faiss(test: np.ndarray, bank: np.ndarray, k: int) -> np.ndarray:
    """The k largest cosines."""
    import faiss

    test, bank = test.copy(), bank.copy()
    faiss.normalize_L2(test)
    faiss.normalize_L2(bank)
    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(bank)
    return index.search(test, k)[0]


def errors(peers: Peers, request: ScorerRequest) -> dict[str, float]:
    """Largest relative errors of S, and error of the k-th cosine, against float64.

    Of a feature that is itself in the bank one term may be all of S, and its rounding with it; of
    others many terms make S, and their roundings cancel.
    """
    step = max(SHARED_EVERY, len(peers.test) // ERROR_ROWS // SHARED_EVERY * SHARED_EVERY)
    in_bank = peers.test[::step]
    others = peers.test[torch.arange(len(peers.test)) % SHARED_EVERY != 0]
    others = others[:: max(1, len(others) // ERROR_ROWS)]
    found = {}
    for name, rows in (("max_rel_error", others), ("max_rel_error_in_bank", in_bank)):
        cosines = F.normalize(rows.double()) @ F.normalize(peers.bank.double()).T
        ours = nearest_scores(rows, peers.bank, request.tau, [request.k])
        exact = (cosines / request.tau).exp().mean(1)
        kth = cosines.topk(request.k).values[:, -1]
        found[name] = float((eq6(ours["eq6"]) / -exact - 1).abs().max())
        error = float((ours[f"knn-{request.k}"] + kth).abs().max())
        found["max_error_knn"] = max(error, found.get("max_error_knn", 0.0))
    return found


def peak_extra_mb(request: ScorerRequest) -> float:
    """Memory at most that all scores in one pass take above their inputs."""
    if pick_device(request.device).type == "cpu":
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(functools.partial(_host_extra_mb, request))
    test, bank = features(request, torch.device("cuda"))
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    nearest_scores(test, bank, request.tau, [request.k])
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def _host_extra_mb(request: ScorerRequest) -> float:
    # Made in place, so that nothing larger was there before.
    test, bank = (torch.randn(count, request.width) for count in (request.test, request.bank))
    test[:8] @ bank[:8].T  # what the libraries take for themselves
    before = _status_mb("VmRSS")
    nearest_scores(test, bank, request.tau, [request.k])
    return _status_mb("VmHWM") - before


def _status_mb(field: str) -> float:
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) * 1024 / 1e6


def measure(request: ScorerRequest) -> dict[str, object]:
    """All figures."""
    results: dict[str, object] = {}
    with same_threads(request.threads):
        peers = Peers(request)
        names = chosen(request.peers, peers.run)
        if not peers.tiles.keys() & set(names):
            products = ", ".join(peers.tiles)
            raise UserError(f"--peers has none of {products}, beside which others stand")
        seconds = in_turn(names, peers.seconds, request.rounds)
    products = zip(*(seconds[name] for name in peers.tiles if name in seconds), strict=True)
    seconds[PRODUCT] = [min(each) for each in products]
    for name, over, under in RATIOS:
        if over in seconds and under in seconds:
            results |= ratio(name, seconds[over], seconds[under])
    results["seconds"] = {n: round(statistics.median(s), 4) for n, s in seconds.items()}
    flops = 2 * request.test * request.bank * request.width
    results["product_tiles"] = peers.tiles
    results["product_gflops"] = round(flops / statistics.median(seconds[PRODUCT]) / 1e9, 1)
    results |= errors(peers, request)
    results["peak_extra_MB"] = round(peak_extra_mb(request), 1)
    return results


@contextmanager
def same_threads(threads: int) -> Iterator[None]:
    """The same number for torch, and for what numpy, scikit-learn and faiss have loaded."""
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
        import faiss  # noqa: F401  (its own libraries are limited too)
    with threadpool_limits(threads or None):
        yield
    torch.set_num_threads(before)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    request = cli.parse(ScorerRequest, argv, description=__doc__)
    device = pick_device(request.device)
    machine = {
        "device": torch.cuda.get_device_name(0) if device.type == "cuda" else "cpu",
        "cpus": os.cpu_count(),
        "threads": request.threads or torch.get_num_threads(),
        "clock": request.clock,
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    results = measure(request)
    sizes = {"test": request.test, "bank": request.bank, "width": request.width, "k": request.k}
    print(json.dumps({**results, **sizes, "rounds": request.rounds, **machine}))


if __name__ == "__main__":
    cli.run(main)
