"""The measurements of `benchmarks.scorer`: speeds, errors and memory."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import platform
import re
import statistics
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.options import ScorerOptions
from benchmarks.rounds import chosen_peers, ratio, time_rounds
from benchmarks.scorer_peers import SHARED_EVERY, Peers, features, same_threads
from eval.scores.cosine import nearest_scores
from shards.errors import UserError
from train.world import pick_device

ERROR_ROWS = 500
"""Number of test features whose Eq. 6 is also computed in float64."""
PRODUCT = "product"
"""Name of the faster of the two matrix products in each round."""
RATIOS = (
    ("gemm_fraction", PRODUCT, "eq6"),
    ("gemm_fraction_all", PRODUCT, "all"),
    ("ratio_mm", "mm", "eq6"),
    ("ratio_chunked", "chunked", "eq6"),
    ("ratio_sklearn", "sklearn", "eq6"),
    ("ratio_faiss_knn", "faiss", "all"),
    ("cost_of_all", "all", "eq6"),
)
"""Name of a ratio, and the two peers whose seconds are divided: the first by the second. In
`ratio_faiss_knn`, faiss computes k-NN alone, and our scorer k-NN and Eq. 6."""


def errors(peers: Peers, options: ScorerOptions) -> dict[str, float]:
    """Return the largest errors of our scorer against float64.

    Returns:
        `max_rel_error` and `max_rel_error_in_bank`: the relative error of S (Eq. 6) for features
        that are not in the bank, and for features that are. If a feature is itself in the bank, one
        term may make nearly all of S, and S has the rounding error of this term. For other features
        S is a sum of many terms, whose errors cancel. `max_error_knn`: the absolute error of the
        k-th largest cosine.
    """
    step = max(SHARED_EVERY, len(peers.test) // ERROR_ROWS // SHARED_EVERY * SHARED_EVERY)
    in_bank = peers.test[::step]
    others = peers.test[torch.arange(len(peers.test)) % SHARED_EVERY != 0]
    others = others[:: max(1, len(others) // ERROR_ROWS)]
    found = {}
    for name, rows in (("max_rel_error", others), ("max_rel_error_in_bank", in_bank)):
        cosines = F.normalize(rows.double()) @ F.normalize(peers.bank.double()).T
        ours = nearest_scores(rows, peers.bank, options.tau, [options.k])
        exact = (cosines / options.tau).exp().mean(1)
        kth = cosines.topk(options.k).values[:, -1]
        found[name] = float((torch.exp(-ours["eq6"]) / exact - 1).abs().max())
        error = float((ours[f"knn-{options.k}"] + kth).abs().max())
        found["max_error_knn"] = max(error, found.get("max_error_knn", 0.0))
    return found


def peak_extra_mb(options: ScorerOptions) -> float:
    """Return the peak memory in MB that all scores in one pass take above their inputs."""
    if pick_device(options.device).type == "cpu":
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(functools.partial(_host_extra_mb, options))
    test, bank = features(options, torch.device("cuda"))
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    nearest_scores(test, bank, options.tau, [options.k])
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def _host_extra_mb(options: ScorerOptions) -> float:
    # The features are made in place, so that the peak before the scores is not higher.
    test, bank = (torch.randn(count, options.width) for count in (options.test, options.bank))
    test[:8] @ bank[:8].T  # allocates the memory that the libraries keep
    before = _status_mb("VmRSS")
    nearest_scores(test, bank, options.tau, [options.k])
    return _status_mb("VmHWM") - before


def _status_mb(field: str) -> float:
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) * 1024 / 1e6


def measure(options: ScorerOptions) -> dict[str, object]:
    """Return all figures by name."""
    results: dict[str, object] = {}
    with same_threads(options.threads):
        peers = Peers(options)
        names = chosen_peers(options.peers, peers.run)
        if not peers.tiles.keys() & set(names):
            products = ", ".join(peers.tiles)
            raise UserError(f"--peers has none of {products}, expected at least one of them")
        seconds = time_rounds(names, peers.seconds, options.rounds)
    products = zip(*(seconds[name] for name in peers.tiles if name in seconds), strict=True)
    seconds[PRODUCT] = [min(each) for each in products]
    for name, over, under in RATIOS:
        if over in seconds and under in seconds:
            results |= ratio(name, seconds[over], seconds[under])
    results["seconds"] = {n: round(statistics.median(s), 4) for n, s in seconds.items()}
    flops = 2 * options.test * options.bank * options.width
    results["product_tiles"] = peers.tiles
    results["product_gflops"] = round(flops / statistics.median(seconds[PRODUCT]) / 1e9, 1)
    results |= errors(peers, options)
    results["peak_extra_MB"] = round(peak_extra_mb(options), 1)
    return results


def print_figures(options: ScorerOptions) -> None:
    """Measure everything, and print one line of JSON."""
    device = pick_device(options.device)
    machine = {
        "device": torch.cuda.get_device_name(0) if device.type == "cuda" else "cpu",
        "cpus": os.cpu_count(),
        "threads": options.threads or torch.get_num_threads(),
        "clock": options.clock,
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    results = measure(options)
    sizes = {"test": options.test, "bank": options.bank, "width": options.width, "k": options.k}
    print(json.dumps({**results, **sizes, "rounds": options.rounds, **machine}))
