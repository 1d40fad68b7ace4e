"""A tiny run with its sets, and the numbers of its scoring by numpy, scipy and scikit-learn.

Legend: N images of a set, M images of the bank, d feature width, K prototypes. Everything is
computed in float64, except by the networks.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from scipy.special import logsumexp, softmax
from scipy.stats import entropy
from sklearn.covariance import EmpiricalCovariance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from sklearn.preprocessing import StandardScaler, normalize

from dali_pipes.batch import RGB_MEAN, RGB_STD, ViewSpec
from eval.config import EQ6
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.reader import ShardSet
from train.checkpoint import Snapshot
from train.config import HeadConfig, LossConfig, ModelConfig, RunConfig
from train.state import TrainState
from train.teacher import LoadedTeacher, load_teacher

CPU = torch.device("cpu")
SIDE_PX = 16
"""Side of images and views: they are equal, so that an evaluation changes no size."""
TAU, KS = 0.04, (1, 5)
PROBE_KS, PROBE_TEMPS = (10, 20), (0.04, 0.07)
SHRINKAGE = 1e-3
BATCH, EPOCHS, STEP = 10, 5, 8
LOSS = LossConfig(student_temp=0.1, teacher_temp_start=0.09, teacher_temp_end=0.01)
FOLDERS = {"in-dist-train": "train", "in-dist-test": "test", "ood-a": "ood-a", "ood-b": "ood-b"}
COUNTS = {"in-dist-train": 40, "in-dist-test": 25, "ood-a": 14, "ood-b": 9}
OOD = ("ood-a", "ood-b")
COLOURS = np.array([[200, 60, 60], [60, 180, 60], [80, 80, 200]])
"""Colours of the three in-distribution classes; OOD images have their complements."""
ROUNDING = {"eq6": 1e-5, "max-cosine": 1e-6, "mahalanobis": 1e-8, "entropy": 1e-5, "energy": 1e-6}
"""Largest difference between a score and its definition. Cosines and logits are float32, and Eq. 6
and the entropy divide them by a temperature."""

Features = Mapping[str, NDArray]
"""Set -> float32 [N, d]."""


def rounding_of(score: str) -> float:
    return ROUNDING["max-cosine" if score.startswith("knn-") else score]


@dataclass(frozen=True)
class ScoreCase:
    """The folders of the run and its sets."""

    root: Path

    @property
    def run(self) -> Path:
        return self.root / "run"

    @cached_property
    def teacher(self) -> LoadedTeacher:
        return load_teacher(self.run, CPU)

    def command(self, out: Path, *more: str) -> list[str]:
        """Arguments of `eval/score.py`, with Eq. 6 as the headline unless `more` says otherwise."""
        bank, test, *ood = (str(self.root / folder) for folder in FOLDERS.values())
        return [
            *(str(self.run), "--in-dist-train", bank, "--in-dist-test", test, "--ood", *ood),
            *("--k", *map(str, KS), "--device", "cpu", "--score", EQ6, "--out", str(out), *more),
        ]

    def images(self, name: str) -> NDArray[np.uint8]:
        """[N, H, W, 3] in the order of the ids."""
        with ShardSet.open(self.root / FOLDERS[name]) as shards:
            return shards.read(np.arange(len(shards)))

    def labels(self, name: str) -> NDArray[np.int64]:
        """[N]"""
        with ShardSet.open(self.root / FOLDERS[name]) as shards:
            return shards.labels(np.arange(len(shards)))

    def plain_features(self) -> Features:
        """Features of the teacher, computed by torch alone."""
        found = {}
        for name in FOLDERS:
            views = (self.images(name).astype(np.float32) - np.float32(RGB_MEAN)) / RGB_STD
            with torch.no_grad():
                pixels = torch.from_numpy(views.astype(np.float32)).permute(0, 3, 1, 2)
                found[name] = self.teacher.backbone(pixels).numpy()
        return found

    def kept_features(self) -> Features:
        """Features that a scoring cached in the run, found by the digest of the set."""
        by_digest = {}
        for path in (self.run / "features").iterdir():
            with safe_open(path, framework="np") as file:
                key = json.loads(file.metadata()["key"])
                by_digest[key["set"]] = file.get_tensor("features")
        found = {}
        for name, folder in FOLDERS.items():
            with ShardSet.open(self.root / folder) as shards:
                found[name] = by_digest[shards.manifest.sha256]
        return found


def write_case(root: Path) -> ScoreCase:
    """Write sets of three classes, and a run whose checkpoint says `STEP` steps."""
    for seed, (name, folder) in enumerate(FOLDERS.items()):
        write_set(root / folder, COUNTS[name], seed, is_ood=name in OOD)
    config = RunConfig(
        in_dist=root / "train",
        out=root / "run",
        negatives="rot-in",
        global_batch=BATCH,
        epochs=EPOCHS,
        views=ViewSpec(global_px=SIDE_PX, local_px=8),
        model=ModelConfig(patch_px=8, width=12, depth=1, heads=2),
        head=HeadConfig(prototypes=200, hidden=16, bottleneck=8),
        loss=LOSS,
    )
    state = TrainState.start(config, CPU)
    state.step = STEP
    generator = torch.Generator().manual_seed(1)
    for parameter in state.teacher.parameters():
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    state.centre += 0.2 * torch.randn(state.centre.shape, generator=generator.manual_seed(0))
    with ShardSet.open(root / "train") as shards:
        manifests = {"in-dist": shards.manifest.sha256}
    Snapshot.of(state, {"manifests": manifests}, config).write(config)
    return ScoreCase(root)


def write_set(out: Path, count: int, seed: int, *, is_ood: bool) -> None:
    """Write PNG files in a folder for each class, and shards of them."""
    rng = np.random.default_rng([5, seed])
    for i in range(count):
        colour = (255 - COLOURS if is_ood else COLOURS)[i % 3] + rng.integers(-75, 76, 3)
        noise = rng.integers(-40, 40, (SIDE_PX, SIDE_PX, 3))
        path = out.parent / f"{out.name}-source" / "abc"[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(colour + noise, 1, 255).astype(np.uint8)).save(path)
    source = out.parent / f"{out.name}-source"
    build(BuildRequest(source="class-folders", src=source, size_px=SIDE_PX, out=out))


# ------------------------------------------------------------------------- expected numbers


@dataclass(frozen=True)
class Expected:
    """The numbers that a scoring of given features must find."""

    scores: dict[str, dict[str, NDArray[np.float64]]]
    """Key of a score -> set -> scores, [N]."""
    probes: dict[str, Any]

    def pairs(self, score: str) -> dict[str, tuple[NDArray, NDArray]]:
        """Return in-distribution and OOD scores for the column of each OOD set, and for `all`."""
        of_sets = self.scores[score]
        ood = {name: of_sets[name] for name in OOD}
        ood["all"] = np.concatenate(list(ood.values()))
        return {name: (of_sets["in-dist-test"], values) for name, values in ood.items()}

    def metrics(self, score: str) -> dict[str, dict[str, float]]:
        """Return column -> metric -> value, by scikit-learn."""
        found = {name: metrics_of(*pair) for name, pair in self.pairs(score).items()}
        found["mean"] = {
            metric: float(np.mean([found[name][metric] for name in OOD])) for metric in found["all"]
        }
        return found

    def smallest_gap(self, score: str) -> float:
        """Smallest gap between an in-distribution and an OOD score; errors below keep the AUROC."""
        in_dist, ood = self.pairs(score)["all"]
        return float(np.abs(in_dist[:, None] - ood).min())


def metrics_of(in_dist: NDArray, ood: NDArray) -> dict[str, float]:
    is_ood, scores = np.r_[np.zeros(len(in_dist)), np.ones(len(ood))], np.r_[in_dist, ood]
    fpr, tpr, _ = roc_curve(is_ood, scores, drop_intermediate=False)
    return {
        "auroc": roc_auc_score(is_ood, scores),
        "aupr_ood": average_precision_score(is_ood, scores),
        "aupr_in": average_precision_score(1 - is_ood, -scores),
        "fpr95": fpr[np.argmax(tpr >= 0.95)],
    }


def expected_of(case: ScoreCase, features: Features) -> Expected:
    """Return all scores and probes of these features, with the labels and the head of `case`."""
    bank, test = features["in-dist-train"], features["in-dist-test"]
    by_set = {
        name: scores_of(features[name], bank, logits(case.teacher, features[name]))
        for name in FOLDERS
    }
    labels = case.labels("in-dist-train"), case.labels("in-dist-test")
    of_train, of_test = (by_set[name]["eq6"] for name in ("in-dist-train", "in-dist-test"))
    is_test = np.r_[np.zeros(len(of_train)), np.ones(len(of_test))]
    # tau_t falls by equal parts from epoch to epoch; the epoch of the last step counts.
    epoch = (STEP - 1) // (len(bank) // BATCH)
    start, end = LOSS.teacher_temp_start, LOSS.teacher_temp_end
    temp = start + (end - start) * epoch / (EPOCHS - 1)
    probes = {
        "knn_accuracy": {
            f"k{k}-t{t:g}": vote(bank, labels[0], test, labels[1], k, t)
            for k in PROBE_KS
            for t in PROBE_TEMPS
        },
        "linear_probe": linear_probe(bank, labels[0], test, labels[1]),
        "sensitivity": roc_auc_score(is_test, np.r_[of_train, of_test]),
        "occupied": {"count": occupied(case.teacher, test, temp), "of": 200},
    }
    scored = [name for name in FOLDERS if name != "in-dist-train"]
    return Expected(
        {s: {name: by_set[name][s] for name in scored} for s in by_set["in-dist-test"]}, probes
    )


def scores_of(features: NDArray, bank: NDArray, of_head: NDArray) -> dict[str, NDArray]:
    """Return key of a score -> [N], by its definition."""
    unit, unit_bank = unit_rows(features), unit_rows(bank)
    cosines = unit @ unit_bank.T
    nearest = -np.sort(-cosines, axis=1)
    fitted = EmpiricalCovariance().fit(unit_bank)
    covariance, width = fitted.covariance_, unit.shape[1]
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * covariance.trace() / width * np.eye(width)
    away = unit - fitted.location_
    scaled = of_head / LOSS.student_temp
    return {
        "eq6": np.log(len(bank)) - logsumexp(cosines / TAU, axis=1),
        "max-cosine": -nearest[:, 0],
        **{f"knn-{k}": -nearest[:, k - 1] for k in KS},
        "mahalanobis": (away @ np.linalg.inv(shrunk) * away).sum(1),
        "entropy": entropy(softmax(scaled, axis=1), axis=1),
        "energy": -LOSS.student_temp * logsumexp(scaled, axis=1),
    }


def unit_rows(features: NDArray) -> NDArray[np.float64]:
    rows = features.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@torch.no_grad()
def logits(teacher: LoadedTeacher, features: NDArray) -> NDArray[np.float64]:
    """[N, K]"""
    return teacher.head(torch.from_numpy(features)).double().numpy()


def occupied(
    teacher: LoadedTeacher, test: NDArray, temp: float, centre: NDArray | None = None
) -> int:
    """Return the number of prototypes whose mean probability is above 1 / K."""
    centre = teacher.centre.double().numpy() if centre is None else centre
    mean = softmax((logits(teacher, test) - centre) / temp, axis=1).mean(0)
    return int((mean > 1 / len(mean)).sum())


def vote(
    bank: NDArray, labels: NDArray, test: NDArray, truth: NDArray, k: int, temp: float
) -> float:
    """Return the share of test images whose neighbours vote for their class, image by image."""
    cosines, right = unit_rows(test) @ unit_rows(bank).T, 0
    for row, label in zip(cosines, truth, strict=True):
        near = np.argsort(-row)[:k]
        votes = np.bincount(labels[near], np.exp(row[near] / temp))
        right += int(votes.argmax() == label)
    return right / len(test)


def linear_probe(bank: NDArray, labels: NDArray, test: NDArray, truth: NDArray) -> float:
    scaler = StandardScaler().fit(normalize(bank))
    fitted = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000)
    fitted.fit(scaler.transform(normalize(bank)), labels)
    return float(fitted.score(scaler.transform(normalize(test)), truth))


# ---------------------------------------------------------------------------- found numbers


def differences(out: Path, expected: Expected) -> list[str]:
    """Return one line for each number in results.json and scores/*.csv that is not as expected."""
    results = json.loads((out / "results.json").read_text())
    probes = results["probes"]
    found = numbers(
        {
            score: {
                column: {name: metrics[name]["value"] for name in metrics if name != "samples"}
                for column, metrics in columns.items()
            }
            for score, columns in results["methods"]["teacher"]["scores"].items()
        },
        {**probes, "sensitivity": probes["sensitivity"]["value"]},
    )
    wanted = numbers({score: expected.metrics(score) for score in expected.scores}, expected.probes)
    lines = [
        f"{name} is {found.get(name)}, expected {wanted.get(name)}"
        for name in sorted({*found, *wanted})
        if not abs(found.get(name, np.nan) - wanted.get(name, np.nan)) <= 1e-9
    ]
    for name, scores in expected.scores["eq6"].items():
        with (out / "scores" / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        if [row["id"] for row in rows] != [str(i) for i in range(len(scores))]:
            lines.append(f"{name}.csv: ids are not 0 to {len(scores) - 1}, each once")
            continue
        off = np.abs(np.array([float(row["score"]) for row in rows]) - scores).max()
        if off > ROUNDING["eq6"]:
            lines.append(f"{name}.csv: a score is {off:.1e} off")
    return lines


def numbers(
    metrics: Mapping[str, Mapping[str, Mapping[str, float]]], probes: Mapping[str, Any]
) -> dict[str, float]:
    """Return every number under one name: those of score, column and metric, and the probes."""
    flat = {
        f"{score} {column} {metric}": value
        for score, columns in metrics.items()
        for column, values in columns.items()
        for metric, value in values.items()
    }
    for probe, value in probes.items():
        of_probe = value if isinstance(value, Mapping) else {"": value}
        flat |= {f"{probe} {name}".strip(): number for name, number in of_probe.items()}
    return flat
