"""The scoring command on real shard sets: the numbers and files that it writes."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from dali_pipes.batch import RGB_MEAN, RGB_STD
from eval.metrics import auroc
from eval.score import main
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.reader import ShardSet
from tests.support.commands import run_command
from tests.support.paths import ROOT
from tests.support.small_sets import (
    CPU,
    SIDE_PX,
    folder_set,
    npy_request,
    npy_set,
    results_of,
    score_command,
    write_run,
)
from train.networks.model import untrained_backbone
from train.teacher import load_teacher

pytestmark = pytest.mark.slow


def eq6_aurocs(results, method="teacher"):
    """Column -> AUROC."""
    found = results["methods"][method]["scores"]["eq6"]
    return {column: metrics["auroc"]["value"] for column, metrics in found.items()}


def scores_by_definition(sets, features_of):
    """Eq. 6, log form, of the three scored sets: float64, by numpy, the whole matrix at once."""

    def unit(name):
        with ShardSet.open(sets / name) as shards:
            features = features_of(shards.read(np.arange(len(shards)))).astype(np.float64)
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    bank = unit("train")
    named = {"in-dist-test": "test", "ood-a": "ood-a", "ood-b": "ood-b"}
    return {
        name: -np.log(np.exp(unit(folder) @ bank.T / 0.04).mean(axis=1))
        for name, folder in named.items()
    }


@torch.no_grad()
def backbone_features(backbone, images):
    views = (images.astype(np.float32) - np.float32(RGB_MEAN)) / np.float32(RGB_STD)
    return backbone(torch.from_numpy(views).permute(0, 3, 1, 2)).numpy()


def aurocs(scores):
    inside, a, b = scores.values()
    return [auroc(inside, ood) for ood in (a, b, np.concatenate([a, b]))]


@pytest.fixture(scope="module")
def scored(run, sets, tmp_path_factory):
    """Output folder of a scoring with baselines."""
    out = tmp_path_factory.mktemp("scored") / "out"
    main(score_command(run, sets, out, "--baselines", "--batch", "5"))
    return out


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_aurocs_are_those_of_the_definition(run, sets, scored):
    loaded = load_teacher(run, CPU)
    untrained = untrained_backbone(loaded.config, CPU)
    results = results_of(scored)
    features_of = {
        "pixel": lambda images: images.reshape(len(images), -1),
        "untrained": lambda images: backbone_features(untrained, images),
        "teacher": lambda images: backbone_features(loaded.backbone, images),
    }
    assert list(results["methods"]) == list(features_of)
    seen = set()
    for method, features in features_of.items():
        scores = scores_by_definition(sets, features)
        gaps = np.diff(np.sort(np.concatenate(list(scores.values()))))
        assert gaps.min() > 5e-6  # so that rounding cannot change the order
        expected = aurocs(scores)
        found = eq6_aurocs(results, method)
        assert [found[name] for name in ("ood-a", "ood-b", "all")] == pytest.approx(expected)
        assert found["mean"] == pytest.approx((expected[0] + expected[1]) / 2)
        samples = results["methods"][method]["scores"]["eq6"]
        assert [samples[name]["samples"] for name in ("ood-a", "ood-b", "all")] == [14, 9, 23]
        seen.add(tuple(expected))
    assert len(seen) == 3  # no method's numbers can stand for another's


def test_results_say_what_was_scored(run, sets, scored):
    results = results_of(scored)
    assert results["higher_is"] == "ood"
    assert results["tau"] == 0.04
    assert results["bank_size"] == 30
    assert results["counts"] == {
        "in-dist-train": 30,
        "in-dist-test": 12,
        "ood-a": 14,
        "ood-b": 9,
    }
    assert results["protocol"] == "mixed: custom, p"
    assert results["checkpoint"] == {"step": 3, "sha256": load_teacher(run, CPU).sha256}
    with ShardSet.open(sets / "ood-b") as shards:
        assert results["manifests"]["ood-b"]["sha256"] == shards.manifest.sha256
    assert results["versions"]["torch"] == torch.__version__
    assert results["command"] == score_command(run, sets, scored, "--baselines", "--batch", "5")
    assert str(sets) not in json.dumps({**results, "command": []})


def test_csv_has_name_and_class_where_it_is_known(sets, scored):
    rows = read_csv(scored / "scores" / "ood-a.csv")
    assert rows[0].keys() == {"id", "score", "name"}
    assert sorted(int(row["name"]) for row in rows) == list(range(14)), "not the rows of the array"
    rows = read_csv(scored / "scores" / "ood-b.csv")
    with ShardSet.open(sets / "ood-b") as shards:
        names = shards.names()
    assert [row["name"] for row in rows] == names
    assert [row["class"] for row in rows] == [name.split("/")[0] for name in names]


def test_table_and_histogram_are_there(scored, capsys):
    results = results_of(scored)
    table = (scored / "table.md").read_text()
    for method in ("pixel cosine", "untrained network", "trained teacher"):
        assert f"| {method} |" in table
    assert f"{100 * eq6_aurocs(results)['all']:.2f}" in table
    with Image.open(scored / "histogram.png") as image:
        assert min(image.size) > 400
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 50


def test_one_ood_set_without_baselines(run, sets, scored, tmp_path, capsys):
    # Features of its own, all in one batch: those of `scored` are made five at a time.
    main(score_command(run, sets, tmp_path / "out", "--cache", str(tmp_path / "c"), ood=("ood-b",)))
    results = results_of(tmp_path / "out")
    with_baselines = results_of(scored)
    assert list(results["methods"]) == ["teacher"]
    alone = eq6_aurocs(results)
    assert alone["ood-b"] == eq6_aurocs(with_baselines)["ood-b"]
    assert alone["all"] == alone["mean"] == alone["ood-b"]
    assert "trained teacher" in capsys.readouterr().out


@pytest.mark.parametrize("score", ["eq6", "ensemble"])
def test_two_ranks_find_what_one_does(run, sets, scored, tmp_path, score):
    """Each image is scored once: the rows of the CSV are those of a single rank."""
    more = "--baselines", "--cache", str(tmp_path / "c"), "--score", score
    if score == "ensemble":
        scored = tmp_path / "alone"
        main(score_command(run, sets, scored, *more[:-3], str(tmp_path / "d"), *more[-2:]))
    arguments = score_command(run, sets, tmp_path / "out", *more)
    result = run_command(ROOT / "eval" / "score.py", *arguments, ranks=2)
    assert result.returncode == 0, result.stderr
    one, two = results_of(scored), results_of(tmp_path / "out")
    assert two["settings"]["ranks"] == 2
    assert one["methods"] == two["methods"]  # every metric of every score
    for path in (scored / "scores").iterdir():
        ours, theirs = read_csv(path), read_csv(tmp_path / "out" / "scores" / path.name)
        assert [row["id"] for row in ours] == [row["id"] for row in theirs]
        np.testing.assert_allclose(
            [float(row["score"]) for row in ours],
            [float(row["score"]) for row in theirs],
            rtol=0,
            atol=1e-5,
        )


def test_features_of_a_file_need_no_run_and_give_the_same_table(run, sets, scored, tmp_path):
    teacher = load_teacher(run, CPU).backbone
    arrays = {}
    for folder, name in (
        ("train", "in-dist-train"),
        ("test", "in-dist-test"),
        ("ood-a",) * 2,
        ("ood-b",) * 2,
    ):
        with ShardSet.open(sets / folder) as shards:
            arrays[name] = backbone_features(teacher, shards.read(np.arange(len(shards))))
    np.savez(tmp_path / "mine.npz", **arrays)
    arguments = score_command(run, sets, tmp_path / "out", "--features", str(tmp_path / "mine.npz"))
    main(arguments[1:])
    results = results_of(tmp_path / "out")
    assert results["headline"] == "npz:mine" and list(results["methods"]) == ["npz:mine"]
    assert results["checkpoint"] is None
    assert eq6_aurocs(results, "npz:mine") == eq6_aurocs(results_of(scored))


def test_near_and_far_sets_have_their_means(run, sets, scored, tmp_path):
    main(score_command(run, sets, tmp_path / "out", "--near", "ood-b"))
    results = results_of(tmp_path / "out")
    assert results["groups"] == {"near": ["ood-b"], "far": ["ood-a"]}
    found = eq6_aurocs(results)
    assert (found["near"], found["far"]) == (found["ood-b"], found["ood-a"])
    assert results_of(scored)["groups"] == {}


def test_a_collapsed_teacher_has_no_mahalanobis_and_all_else(sets, tmp_path, capsys):
    def change(teacher):
        teacher.backbone.norm.weight.zero_()  # so that every feature is the bias
        teacher.backbone.norm.bias.copy_(torch.arange(1.0, 13.0))

    run = write_run(tmp_path / "run", sets / "train", change)
    out = tmp_path / "out"
    main(score_command(run, sets, out, "--baselines"))
    told = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert told == [
        "Mahalanobis (SSD) is left out: in-dist-train (trained teacher): its 30 features do not "
        "differ, so they have no covariance"
    ]
    results = results_of(out)
    assert list(results["methods"]["teacher"]["scores"]) == [
        *("eq6", "max-cosine", "knn-1", "knn-5", "entropy", "energy")
    ]
    assert "mahalanobis" in results["methods"]["untrained"]["scores"]
    assert set(eq6_aurocs(results).values()) == {0.5}
    assert "Mahalanobis" not in (out / "table.md").read_text()  # its rows are the teacher's scores
    assert "Mahalanobis" in (out / "report.html").read_text()


def test_a_black_image_counts_as_a_gray_one_in_the_pixel_baseline(run, sets, tmp_path):
    gray = np.full((3, SIDE_PX, SIDE_PX, 3), 9, dtype=np.uint8)
    found = []
    for name, level in (("gray", 9), ("black", 0)):
        gray[1] = level
        np.save(tmp_path / f"{name}.npy", gray)
        build(BuildRequest(**npy_request(tmp_path / f"{name}.npy", tmp_path / name)))
        out = tmp_path / f"out-{name}"
        main(score_command(run, sets, out, "--baselines", ood=("ood-a", tmp_path / name)))
        results = results_of(out)
        found.append(eq6_aurocs(results, "pixel")[name])
    assert found[0] == found[1]


def test_another_bank_than_the_training_set_is_said(run, sets, tmp_path):
    other = npy_set(tmp_path / "other", 30, seed=77)
    arguments = [
        argument.replace(str(sets / "train"), str(other))
        for argument in score_command(run, sets, tmp_path / "out")
    ]
    main(arguments)
    results = results_of(tmp_path / "out")
    assert results["bank_is_training_set"] is False
    assert "not those the run was trained on" in (tmp_path / "out" / "table.md").read_text()
    main(score_command(run, sets, tmp_path / "usual"))
    results = results_of(tmp_path / "usual")
    assert results["bank_is_training_set"] is True


def test_a_file_name_that_is_not_utf_8_is_written_as_it_is(run, sets, tmp_path):
    folder_set(tmp_path / "named", 3, seed=5)
    source = tmp_path / "named-source" / "boat" / "image, 0.png"
    strange = os.fsencode(source.parent) + b"/caf\xe9.png"
    os.rename(source, strange)
    request = {**npy_request(tmp_path / "named-source", tmp_path / "strange"), "source": "folder"}
    build(BuildRequest(**request))
    main(score_command(run, sets, tmp_path / "out", ood=("ood-a", tmp_path / "strange")))
    text = (tmp_path / "out" / "scores" / "strange.csv").read_bytes()
    assert b"caf\xe9.png" in text
