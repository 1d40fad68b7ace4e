"""Made-up results of a scoring."""

from __future__ import annotations

from dataclasses import replace

from eval.audits.headline_probes import Occupied, Probes
from eval.intervals import Interval
from eval.metrics import Metrics
from eval.results.scoring import (
    Checkpoint,
    NetworkMetrics,
    Provenance,
    Scoring,
    SetFacts,
    Settings,
    Training,
)


def interval(value, half=0.01):
    return Interval(value, max(0.0, value - half), min(1.0, value + half))


def found(auroc, samples=1500):
    """All metrics of one column, each with another number."""
    return Metrics(
        samples=samples,
        auroc=interval(auroc),
        aupr_ood=interval(auroc - 0.02),
        aupr_in=interval(auroc - 0.04),
        fpr95=interval(1 - auroc),
    )


def columns(names, start, groups=()):
    """Metrics with an AUROC of `start` for the first set, and 0.01 more for each further set.

    Groups, `mean` and `all` have 0.005 more than `start`, which is not the mean of the sets. So a
    test notices if another column's number is printed.
    """
    of_sets = {name: found(start + i / 100) for i, name in enumerate(names)}
    rest = {name: found(start + 0.005, 1500 * len(names)) for name in (*groups, "mean", "all")}
    return {**of_sets, **rest}


def set_facts(name, number=0, **changes):
    how = {"resize": "pillow-bicubic", "encoding": "raw", **changes}
    return SetFacts(name=name, split="test", protocol="", sha256=f"{number:064x}", **how)


def made_up_scoring(
    names=("svhn", "lsun"),
    *,
    in_dist="cifar10-test",
    protocol="a-protocol",
    groups=None,
    start=0.92,
    baselines=True,
    training=None,
    probes=None,
):
    groups = groups or {}
    methods = {}
    if baselines:
        for key, label, at in (
            ("pixel", "pixel cosine", 0.61),
            ("untrained", "untrained network", 0.7),
        ):
            methods[key] = NetworkMetrics(label, 384, {"eq6": columns(names, at, groups)})
    scores = {
        score: columns(names, start - lower, groups)
        for score, lower in (
            ("eq6", 0),
            ("max-cosine", 0.01),
            ("knn-5", 0.02),
            ("mahalanobis", 0.03),
            ("entropy", 0.04),
            ("energy", 0.05),
        )
    }
    methods["teacher"] = NetworkMetrics("trained teacher", 384, scores)
    return Scoring(
        headline="teacher",
        tau=0.04,
        counts={"in-dist-train": 50000, "in-dist-test": 10000, **dict.fromkeys(names, 1500)},
        groups={group: tuple(of_group) for group, of_group in groups.items()},
        methods=methods,
        probes=probes or Probes(sensitivity=interval(0.55)),
        provenance=Provenance(
            protocol=protocol,
            bank_size=50000,
            bank_is_training_set=True,
            checkpoint=Checkpoint(1234, "ab"),
            manifests={"in-dist-test": set_facts(in_dist)},
            overlap={},
        ),
        settings=Settings(
            training=training, precision="fp32", batch=256, k=(5, 50), device="cpu", ranks=1
        ),
        versions={"torch": "2.9"},
        command=("RUN", "--out", "a folder"),
    )


def trained(negatives, aux=None):
    return Training(negatives, aux)


def made_up_probes(knn=0.8, occupied=400, sensitivity=0.55):
    return Probes(
        knn_accuracy={"k10-t0.04": knn - 0.02, "k20-t0.07": knn},
        linear_probe=knn + 0.05,
        sensitivity=interval(sensitivity),
        occupied=Occupied(occupied, 4096),
    )


def with_provenance(scoring, **changes):
    """`scoring` with other facts about bank, checkpoint, protocol and sets."""
    return replace(scoring, provenance=replace(scoring.provenance, **changes))


def with_set(scoring, name, **changes):
    """`scoring` with other facts about one set."""
    manifests = scoring.provenance.manifests
    facts = replace(manifests[name], **changes)
    return with_provenance(scoring, manifests={**manifests, name: facts})


def with_metrics(scoring, method, score, column, metrics):
    """`scoring` with other metrics in one column of one score, which begins as a copy of Eq. 6."""
    network = scoring.methods[method]
    before = network.scores.get(score, network.scores["eq6"])
    scores = {**network.scores, score: {**before, column: metrics}}
    return replace(scoring, methods={**scoring.methods, method: replace(network, scores=scores)})
