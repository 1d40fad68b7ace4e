"""Made-up results, as results.json holds them."""

from __future__ import annotations


def interval(value, half=0.01):
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}


def found(auroc, samples=1500):
    """All metrics of one column, each another number."""
    return {
        "samples": samples,
        "auroc": interval(auroc),
        "aupr_ood": interval(auroc - 0.02),
        "aupr_in": interval(auroc - 0.04),
        "fpr95": interval(1 - auroc),
    }


def columns(names, start, groups=()):
    """`start`, and one hundredth more for each further set; groups and `all` at half a hundredth.

    So the mean is not the mean of the sets: who prints another column's number is found out.
    """
    of_sets = {name: found(start + i / 100) for i, name in enumerate(names)}
    rest = {name: found(start + 0.005, 1500 * len(names)) for name in (*groups, "mean", "all")}
    return {**of_sets, **rest}


def made_up_results(
    names=("svhn", "lsun"),
    *,
    in_dist="cifar10-test",
    protocol="a-protocol",
    groups=None,
    start=0.92,
    baselines=True,
    settings=None,
    probes=None,
):
    groups = groups or {}
    methods = {}
    if baselines:
        for key, label, at in (
            ("pixel", "pixel cosine", 0.61),
            ("untrained", "untrained network", 0.7),
        ):
            scores = {"eq6": columns(names, at, groups)}
            methods[key] = {"label": label, "feature_dim": 384, "scores": scores}
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
    methods["teacher"] = {"label": "trained teacher", "feature_dim": 384, "scores": scores}
    return {
        "format_version": 2,
        "higher_is": "ood",
        "tau": 0.04,
        "protocol": protocol,
        "headline": "teacher",
        "counts": {"in-dist-train": 50000, "in-dist-test": 10000, **dict.fromkeys(names, 1500)},
        "groups": groups,
        "methods": methods,
        "probes": probes or {},
        "bank_is_training_set": True,
        "checkpoint": {"step": 1234, "sha256": "ab"},
        "manifests": {"in-dist-test": {"name": in_dist, "sha256": "a" * 64}},
        "settings": settings or {},
    }


def made_up_probes(knn=0.8, occupied=400, sensitivity=0.55):
    return {
        "knn_accuracy": {"k10-t0.04": knn - 0.02, "k20-t0.07": knn},
        "linear_probe": knn + 0.05,
        "occupied": {"count": occupied, "of": 4096},
        "sensitivity": interval(sensitivity),
    }
