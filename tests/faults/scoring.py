"""Faults of a scoring, E1 to E5: wrong signs and names, bad features, ties, tiles, shared images.

The results of a scoring are compared with plain computations (tests/support/score_cases.py). The
same comparison is made with each polarity mutant in place, and must find a difference.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from dali_pipes.eval_loader import EvalLoader
from eval import score_sets
from eval.audits import headline_probes
from eval.features.embed import embed
from eval.metrics import measure
from eval.results import collect
from eval.score import main
from eval.scores import all_scores, cosine, mahalanobis, prototypes
from eval.sets.opening import EvalSets
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.errors import UserError
from shards.reader import ShardSet
from tests.faults.trial import Trial
from tests.support.score_cases import (
    CPU,
    FOLDERS,
    KS,
    SIDE_PX,
    TAU,
    Expected,
    Features,
    ScoreCase,
    differences,
    expected_of,
    rounding_of,
    write_case,
)
from train.world import World, share_of_rank

Mutant = tuple[object, str, Callable]
"""A module or class, the name of a function in it, and the function that replaces it."""
BANK, TEST = "in-dist-train", "in-dist-test"


def drill(trial: Trial) -> dict[str, object]:
    """Test a scoring without faults, with mutants and with bad input; then its parts."""
    case = write_case(trial.folder / "case")
    fault = refusal(case.command(trial.folder / "out"))
    if not trial.expect(fault is None, f"an undisturbed scoring is refused: {fault}"):
        return {}
    features = case.kept_features()
    expected = expected_of(case, features)
    found = differences(trial.folder / "out", expected)
    trial.expect(not found, f"an undisturbed scoring: {found[:3]}")
    return {
        **polarity(trial, case, expected),
        **metric_cases(trial),
        **shapes(trial, case, features, expected),
        **leaks(trial, case),
        **without_direction(trial),
    }


def refusal(arguments: list[str]) -> str | None:
    """Score silently, and return the message of the error; None if there is none."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main(arguments)
        except UserError as error:
            return str(error)
    return None


# ------------------------------------------------------------------------------------ E1: polarity


def polarity_mutants() -> dict[str, Mutant]:
    """Return mutants by name, each with one mistake of sign, direction, order or name."""
    nearest, of_prototypes = all_scores.nearest_scores, all_scores.prototype_scores
    distance = mahalanobis.Mahalanobis.score

    def negated(name: str, function: Callable) -> Callable:
        def mutant(*args, **kwargs):
            found = function(*args, **kwargs)
            return {**found, name: -found[name]}

        return mutant

    def exchanged(one: str, other: str, function: Callable) -> Callable:
        def mutant(*args, **kwargs):
            found = function(*args, **kwargs)
            return {**found, one: found[other], other: found[one]}

        return mutant

    def of_sorted_up(test, *args, **kwargs):
        farthest = nearest(-test, *args, **kwargs)  # the smallest cosines in place of the largest
        return {**nearest(test, *args, **kwargs), "knn-5": -farthest["knn-5"]}

    def in_order_of_score(path, of_set, shards):
        write_scores(path, np.sort(of_set), shards)

    def sets_exchanged(one: str, other: str) -> Callable:
        def mutant(*args, **kwargs) -> EvalSets:
            sets = open_sets(*args, **kwargs)
            both = {one: sets.shards[other], other: sets.shards[one]}
            shards = {name: both.get(name, shards) for name, shards in sets.shards.items()}
            return EvalSets({name: len(s) for name, s in shards.items()}, shards)

        return mutant

    write_scores, open_sets = score_sets.write_scores, score_sets.open_sets
    measured, mean = collect.measure, collect.mean_of_sets
    sensitivity = headline_probes.auroc_interval
    negate = {
        f"negated {name}": (all_scores, "nearest_scores", negated(name, nearest))
        for name in ("eq6", "max-cosine", "knn-5")
    } | {
        f"negated {name}": (all_scores, "prototype_scores", negated(name, of_prototypes))
        for name in ("entropy", "energy")
    }
    return {
        **negate,
        "negated mahalanobis": (
            mahalanobis.Mahalanobis,
            "score",
            lambda *args, **kwargs: -distance(*args, **kwargs),
        ),
        "entropy for energy": (
            all_scores,
            "prototype_scores",
            exchanged("entropy", "energy", of_prototypes),
        ),
        "k-NN for maximum cosine": (
            all_scores,
            "nearest_scores",
            exchanged("knn-5", "max-cosine", nearest),
        ),
        "labels swapped": (collect, "measure", lambda one, other: measured(other, one)),
        "labels swapped in the mean": (
            collect,
            "mean_of_sets",
            lambda one, sets: mean(-one, [-ood for ood in sets]),
        ),
        "labels swapped in the sensitivity": (
            headline_probes,
            "auroc_interval",
            lambda one, other: sensitivity(other, one),
        ),
        "test and OOD folders swapped": (score_sets, "open_sets", sets_exchanged(TEST, "ood-a")),
        "OOD folders swapped": (score_sets, "open_sets", sets_exchanged("ood-a", "ood-b")),
        "bank and test folders swapped": (score_sets, "open_sets", sets_exchanged(BANK, TEST)),
        "neighbours sorted up": (all_scores, "nearest_scores", of_sorted_up),
        "rows sorted by score": (score_sets, "write_scores", in_order_of_score),
    }


def polarity(trial: Trial, case: ScoreCase, expected: Expected) -> dict[str, object]:
    """Score with each mutant: there must be an error or a difference."""
    killed, mutants = 0, polarity_mutants()
    for name, (place, attribute, mutant) in mutants.items():
        out = trial.folder / f"mutant-{name}"
        with patch.object(place, attribute, mutant):
            is_refused = refusal(case.command(out)) is not None
        killed += trial.expect(is_refused or differences(out, expected), f"{name}: not seen")
    return {"polarity_mutants": len(mutants), "killed": killed}


# ------------------------------------------------------------------------------------- E3: metrics


def metric_cases(trial: Trial) -> dict[str, object]:
    """Compare metrics with sums over all pairs and thresholds; scores have few or many ties."""
    rng, largest = trial.rng(), 0.0
    cases = trial.count(1000, 10_000)
    for number in range(cases):
        in_dist, ood = (rng.normal(size=rng.integers(1, 41)) for _ in range(2))
        ood += rng.uniform(-2, 2)
        if number % 3:
            in_dist, ood = in_dist.round(number % 3 - 1), ood.round(number % 3 - 1)
        found = measure(in_dist, ood)
        off = max(
            abs(getattr(found, name).value - v) for name, v in by_definition(in_dist, ood).items()
        )
        trial.expect(off <= 1e-12, f"metrics of case {number} are {off:.1e} off")
        largest = max(largest, off)
    return {"metric_cases": cases, "metric_largest_difference": largest}


def by_definition(in_dist: NDArray, ood: NDArray) -> dict[str, float]:
    """Compute the metrics from all pairs of scores, and from all thresholds."""
    won = (ood[:, None] > in_dist).sum() + 0.5 * (ood[:, None] == in_dist).sum()
    aupr_ood, fpr95 = by_thresholds(in_dist, ood)
    aupr_in, _ = by_thresholds(-ood, -in_dist)
    auroc = won / (len(in_dist) * len(ood))
    return {"auroc": auroc, "aupr_ood": aupr_ood, "aupr_in": aupr_in, "fpr95": fpr95}


def by_thresholds(negatives: NDArray, positives: NDArray) -> tuple[float, float]:
    """Return the average precision, and the false-positive rate at a true-positive rate of 95 %."""
    thresholds = np.unique(np.r_[negatives, positives])[::-1, None]
    tp, fp = (positives >= thresholds).sum(1), (negatives >= thresholds).sum(1)
    area = (np.diff(tp, prepend=0) / len(positives) * tp / (tp + fp)).sum()
    return float(area), fp[np.argmax(100 * tp >= 95 * len(positives))] / len(negatives)


# -------------------------------------------------------------------------------------- E4: shapes


def shapes(
    trial: Trial, case: ScoreCase, features: Features, expected: Expected
) -> dict[str, object]:
    """Check that batches and ranks give each id once, and that tiles change only the rounding."""
    seen = missing = repeated = 0
    largest_feature = 0.0
    batches, ranks = trial.count(3, 6), trial.count(3, 5)
    for name, folder in FOLDERS.items():
        for batch, world_size in itertools.product((1, 7, 64, 2, 3, 13)[:batches], range(1, ranks)):
            with ShardSet.open(case.root / folder) as shards:
                parts, ids = [], []
                for rank in range(world_size):
                    share = share_of_rank(len(shards), rank, world_size)
                    loader = list(EvalLoader(shards, SIDE_PX, batch, CPU, 1, share))
                    ids += [int(i) for of_batch, _ in loader for i in of_batch]
                    parts.append(embed(case.teacher.backbone, loader, CPU, ids=share))
            what = f"{name} in batches of {batch} on {world_size} ranks"
            times = np.bincount(ids, minlength=len(features[name]))
            seen += len(ids)
            missing += int((times == 0).sum())
            repeated += int((times > 1).sum())
            trial.expect((times == 1).all(), f"{what}: ids {np.flatnonzero(times != 1)}")
            off = float(np.abs(torch.cat(parts).numpy() - features[name]).max())
            trial.expect(off <= 2e-5, f"{what}: features are {off:.1e} off")
            largest_feature = max(largest_feature, off)
    largest: dict[str, float] = {}
    tiles = [(1, 1), (7, 13), (64, 5), (3, 32), (25, 40), (4096, 4096)]
    for rows, columns in tiles:
        found = scores_in_tiles(case, features, rows, columns)
        for name, of_sets in found.items():
            off = max(float(np.abs(of_sets[s] - v).max()) for s, v in expected.scores[name].items())
            what = f"{name} in tiles of {rows} x {columns}"
            trial.expect(off <= rounding_of(name), f"{what}: {off:.1e} off")
            auroc = measure(of_sets[TEST], np.r_[of_sets["ood-a"], of_sets["ood-b"]]).auroc
            wanted = expected.metrics(name)["all"]["auroc"]
            trial.expect(abs(auroc.value - wanted) <= 1e-12, f"{what}: AUROC {auroc}")
            largest[name] = max(largest.get(name, 0.0), off)
    return {
        "ids_seen": seen,
        "ids_missing": missing,
        "ids_repeated": repeated,
        "feature_largest_difference": largest_feature,
        "tile_shapes": len(tiles),
        "score_largest_difference": largest,
    }


def scores_in_tiles(
    case: ScoreCase, features: Features, rows: int, columns: int
) -> dict[str, dict[str, NDArray]]:
    """Compute all scores in tiles of one shape: score -> set -> [N]."""
    with (
        patch.object(cosine, "TILE_SHAPE", {"cpu": (rows, columns)}),
        patch.object(mahalanobis, "TILE", rows),
        patch.object(prototypes, "TILE", rows),
    ):
        return all_scores.all_scores(
            {name: torch.from_numpy(values) for name, values in features.items()},
            TAU,
            KS,
            World(0, 1, CPU),
            "teacher",
            has_covariance=True,
            teacher=case.teacher,
            tell=print,
        )


# --------------------------------------------------------------------- E2, E5: what is refused


def leaks(trial: Trial, case: ScoreCase) -> dict[str, object]:
    """Check that sets which share one to three images are refused, and nothing is written."""
    rng, refused = trial.rng(1), 0
    tried = trial.count(12, 100)
    for number in range(tried):
        source = (BANK, BANK, TEST)[number % 3]
        takes = TEST if number % 3 == 0 else "ood-a"  # the set that has images of `source` too
        count = int(rng.integers(1, 4))
        taken = case.images(source)
        images = case.images(takes)[count:]
        images = np.concatenate([images, taken[rng.permutation(len(taken))[:count]]])
        folder = trial.folder / f"leak-{number}"
        folder.mkdir()
        for name in FOLDERS.values():
            if name != FOLDERS[takes]:
                os.symlink(case.root / name, folder / name)
        os.symlink(case.run, folder / "run")
        np.save(folder / "source.npy", images[rng.permutation(len(images))])
        encoding = ("raw", "png")[number % 2]
        build(
            BuildRequest(
                source="npy",
                src=folder / "source.npy",
                size_px=SIDE_PX,
                out=folder / FOLDERS[takes],
                encoding=encoding,
            )
        )
        message = refusal(ScoreCase(folder).command(folder / "out"))
        told = f"{count} of {takes} are in {source} too"
        is_refused = told in (message or "") and not (folder / "out").exists()
        refused += trial.expect(is_refused, f"leak {number}, {told}: {message}")
    return {"leaks": tried, "leaks_refused": refused}


def without_direction(trial: Trial) -> dict[str, object]:
    """Check that NaN, infinite and zero features are refused, and nothing is written."""
    rng, named = trial.rng(2), 0
    tried = trial.count(24, 240)
    for number in range(tried):
        arrays = {name: rng.normal(size=(30, 8)).astype(np.float32) for name in FOLDERS}
        name = list(FOLDERS)[number % 4]
        ids = np.sort(rng.permutation(30)[: 1 + number % 3])
        if number % 8 < 4:
            arrays[name][ids] = 0
        else:
            arrays[name][ids, number % 8] = (np.nan, np.inf, -np.inf)[number % 3]
        path, out = trial.folder / "features.npz", trial.folder / f"bad-{number}"
        np.savez(path, **arrays)
        options = ("--features", str(path), "--k", "5", "--device", "cpu", "--out", str(out))
        message = refusal(list(options))
        told = f"ids {', '.join(map(str, ids))}"
        is_named = message is not None and message.startswith(name) and message.endswith(told)
        named += trial.expect(is_named and not out.exists(), f"{name}, {told}: {message}")
    return {"bad_features": tried, "bad_features_named": named}
