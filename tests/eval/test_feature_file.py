"""Feature files: the errors of bad files, and scorings of feature files alone."""

from __future__ import annotations

import csv
import json
import zipfile

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from eval.score import main
from eval.sets.feature_file import FeatureFile, sets_of
from shards.errors import UserError

CPU = torch.device("cpu")
BANK, TEST = "in-dist-train", "in-dist-test"
COUNTS = {BANK: 40, TEST: 25, "svhn": 18, "close": 9}


def made_up(**changes) -> dict[str, np.ndarray]:
    """Make random features for COUNTS, those of OOD sets shifted; None removes an array."""
    rng = np.random.default_rng(0)
    shift = {"svhn": 1.5, "close": 0.5}
    arrays = {
        name: (rng.normal(size=(count, 6)) + np.eye(6)[0] * (2 - shift.get(name, 0))).astype("f4")
        for name, count in COUNTS.items()
    }
    changed = {**arrays, **{name.replace("_", "-"): array for name, array in changes.items()}}
    return {name: array for name, array in changed.items() if array is not None}


def scored(tmp_path, *files: dict[str, np.ndarray], more=()):
    """Score files a.npz, b.npz, ... and return the output folder."""
    paths = []
    for stem, arrays in zip("abc", files, strict=False):
        paths.append(str(tmp_path / f"{stem}.npz"))
        np.savez(paths[-1], **arrays)
    out = ["--out", str(tmp_path / "out"), "--device", "cpu", "--k", "5"]
    main(["--features", *paths, *out, *more])
    return tmp_path / "out"


def eq6(arrays, name):
    """Compute the log form of Eq. 6 in numpy, in float64, with all cosines at once."""
    test, bank = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in (arrays[name].astype(np.float64), arrays[BANK].astype(np.float64))
    )
    return -np.log(np.exp(test @ bank.T / 0.04).mean(axis=1))


@pytest.mark.slow
def test_features_alone_give_every_table(tmp_path):
    arrays = made_up()
    out = scored(tmp_path, arrays, more=("--near", "close"))
    assert sorted(path.name for path in out.iterdir()) == [
        *("histogram.png", "report.html", "results.json", "roc.png", "scores"),
        *("table.csv", "table.md", "table.tex"),
    ]
    scores = {name: eq6(arrays, name) for name in (TEST, "svhn", "close")}
    scores["all"] = np.concatenate([scores["svhn"], scores["close"]])
    results = json.loads((out / "results.json").read_text())
    found = results["methods"]["npz:a"]["scores"]["eq6"]
    for name in ("svhn", "close", "all"):
        is_ood = np.repeat([0, 1], [len(scores[TEST]), len(scores[name])])
        both = np.concatenate([scores[TEST], scores[name]])
        assert np.diff(np.sort(both)).min() > 1e-5  # rounding cannot change the order
        assert found[name]["auroc"]["value"] == pytest.approx(roc_auc_score(is_ood, both))
        expected = average_precision_score(is_ood, both)
        assert found[name]["aupr_ood"]["value"] == pytest.approx(expected)
    assert found["near"]["auroc"] == found["close"]["auroc"] != found["svhn"]["auroc"]
    assert results["counts"] == COUNTS and results["bank_size"] == 40
    assert list(results["methods"]["npz:a"]["scores"])[-1] == "mahalanobis"
    assert list(results["probes"]) == ["sensitivity"]
    for name in (TEST, "svhn", "close"):
        with (out / "scores" / f"{name}.csv").open(newline="") as file:
            header, *rows = csv.reader(file)
        assert header == ["id", "score"]
        assert [int(row[0]) for row in rows] == list(range(COUNTS[name]))
        np.testing.assert_allclose([float(row[1]) for row in rows], scores[name], atol=2e-5)


@pytest.mark.slow
def test_a_set_may_be_called_as_a_column(tmp_path):
    arrays = made_up()
    for name in ("plain", "renamed"):
        (tmp_path / name).mkdir()
    plain = scored(tmp_path / "plain", arrays, more=("--near", "close"))
    renamed = {{"svhn": "far", "close": "near"}.get(name, name): arrays[name] for name in arrays}
    out = scored(tmp_path / "renamed", renamed, more=("--near", "near"))
    expected, found = (
        json.loads((folder / "results.json").read_text())["methods"]["npz:a"]["scores"]["eq6"]
        for folder in (plain, out)
    )
    assert [*found] == ["far-set", "near-set", "near", "far", "mean", "all"]
    assert [*found.values()] == [*expected.values()]
    assert (out / "scores" / "far-set.csv").is_file()


@pytest.mark.slow
def test_what_needs_images_is_left_out(tmp_path):
    out = scored(tmp_path, made_up())
    results = json.loads((out / "results.json").read_text())
    assert "shortcuts" not in results and results["manifests"] == {}
    assert results["protocol"] == "custom" and results["groups"] == {}
    assert results["checkpoint"] is None and not results["bank_is_training_set"]
    page = (out / "report.html").read_text()
    assert "<img" not in page and 'id="images"' not in page and 'id="shortcuts"' not in page
    assert "share no images" not in page  # images were not compared
    auroc = results["methods"]["npz:a"]["scores"]["eq6"]["svhn"]["auroc"]["value"]
    assert f"{100 * auroc:.2f}" in page


@pytest.mark.slow
def test_several_files_are_rows_of_one_table(tmp_path):
    one = made_up()
    other = {name: array[:, :3].astype("f8") for name, array in reversed(one.items())}
    out = scored(tmp_path, one, other)
    methods = json.loads((out / "results.json").read_text())["methods"]
    assert list(methods) == ["npz:a", "npz:b"]
    for key, arrays in (("npz:a", one), ("npz:b", other)):
        inside, svhn = eq6(arrays, TEST), eq6(arrays, "svhn")
        expected = roc_auc_score(np.repeat([0, 1], [25, 18]), np.concatenate([inside, svhn]))
        assert methods[key]["scores"]["eq6"]["svhn"]["auroc"]["value"] == pytest.approx(expected)
        assert methods[key]["feature_dim"] == arrays[BANK].shape[1]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"in_dist_train": None}, "has no array 'in-dist-train'; it has in-dist-test, svhn, close"),
        ({"in_dist_test": np.ones((0, 6))}, r"in-dist-test is float64 \[0, 6\], expected floats"),
        ({"svhn": np.ones((4, 6), int)}, r"svhn is int64 \[4, 6\], expected floats \[N, d\]"),
        ({"svhn": np.ones(4)}, r"svhn is float64 \[4\], expected floats"),
        (
            {"svhn": np.ones((4, 5))},
            "rows of svhn have 5 numbers, expected 6 as in in-dist-train",
        ),
        ({"svhn": None, "close": None}, "has no array of OOD images"),
        (
            {"all": np.ones((4, 6)), "all-set": np.ones((4, 6))},
            "all and all-set are both named 'all-set'",
        ),
        ({"a/b": np.ones((4, 6))}, "'a/b' cannot be the name of an OOD set"),
        ({"..": np.ones((4, 6))}, r"'\.\.' cannot be the name of an OOD set"),
    ],
)
def test_a_file_that_cannot_be_scored_alone(tmp_path, changes, fault):
    with pytest.raises(UserError, match=f"^--features .*a.npz: {fault}"):
        scored(tmp_path, made_up(**changes))
    assert not (tmp_path / "out").exists()


def test_features_that_are_not_finite_are_named(tmp_path):
    svhn = made_up()["svhn"]
    svhn[3, 2] = np.nan
    with pytest.raises(
        UserError, match=r"^svhn \(a.npz\): 1 of 18 features have NaN or Inf; ids 3"
    ):
        scored(tmp_path, made_up(svhn=svhn))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_rows_that_two_sets_have_are_refused_or_recorded(tmp_path, kind):
    """The rows of the second file may be float64; they are compared as float32."""
    leaky = made_up()
    leaky["svhn"][[2, 11]] = leaky[BANK][[7, 7]]
    leaky["close"][4] = leaky[TEST][0]
    leaky["svhn"] = leaky["svhn"].astype(kind)
    clean = {name: array + 1 for name, array in made_up().items()}
    shared = r"2 of svhn are in in-dist-train too \(ids 2, 11\); 1 of close .* in-dist-test too"
    with pytest.raises(UserError, match=rf"^sets share rows of .*b.npz: {shared}.*take them out"):
        scored(tmp_path, clean, leaky)
    assert not (tmp_path / "out").exists()
    out = scored(tmp_path, clean, leaky, more=("--allow-overlap",))
    overlap = {"in-dist-train and svhn": 2, "in-dist-test and close": 1}
    assert json.loads((out / "results.json").read_text())["overlap"] == overlap


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"svhn": np.ones((17, 6))}, "svhn has 17 rows, expected 18"),
        ({"svhn": None}, "has no array 'svhn'"),
        ({"more": np.ones((3, 6))}, "more is no set of .*a.npz"),
    ],
)
def test_files_must_have_the_same_sets(tmp_path, changes, fault):
    with pytest.raises(UserError, match=f"^--features .*b.npz: {fault}"):
        scored(tmp_path, made_up(), made_up(**changes))


def test_what_is_no_npz(tmp_path):
    np.save(tmp_path / "one.npy", np.ones((3, 2)))
    np.savez(tmp_path / "cut.npz", **made_up())
    data = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    (tmp_path / "flipped.npz").write_bytes(data[:300] + bytes([data[300] ^ 1]) + data[301:])
    (tmp_path / "empty.npz").touch()
    for name, fault in (
        ("one.npy", "is one array, expected an .npz"),
        ("cut.npz", "cannot be read as .npz"),
        ("flipped.npz", "cannot be read as .npz"),
        ("empty.npz", "cannot be read as .npz"),
        ("missing.npz", "cannot be read as .npz"),
    ):
        with pytest.raises(UserError, match=f"^--features .*{name}: {fault}"):
            FeatureFile.read(tmp_path / name, CPU)


def test_arrays_that_are_no_set_of_the_shards_do_no_harm(tmp_path):
    np.savez(tmp_path / "a.npz", **made_up(labels=np.arange(3)))
    file = FeatureFile.read(tmp_path / "a.npz", CPU)
    file.check(COUNTS)
    with pytest.raises(UserError, match="labels is int64"):
        sets_of([file])
    with pytest.raises(UserError, match="close has 9 rows, expected 8"):
        file.check({**COUNTS, "close": 8})


def test_a_member_that_is_no_array(tmp_path):
    np.savez(tmp_path / "a.npz", **made_up())
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("readme.txt", "how it was made")
    file = FeatureFile.read(tmp_path / "a.npz", CPU)
    file.check(COUNTS)  # a scoring with shards has no set "readme.txt"
    with pytest.raises(UserError, match=r"a.npz: readme.txt is \|S15 \[\], expected floats"):
        sets_of([file])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--baselines"], "--in-dist-train: expected a folder of shards; only --features alone"),
        (["run"], "--in-dist-train: expected"),
        (["--in-dist-train", "d"], "--in-dist-test: expected"),
        (["--backbone", "timm:test_vit"], "--in-dist-train: expected"),
        (["--images", "d"], "--in-dist-train: expected"),
    ],
)
def test_what_needs_images_is_refused_without_them(tmp_path, more, message):
    with pytest.raises(UserError, match=f"^{message}"):
        main([*more, "--out", str(tmp_path / "out"), "--features", "a.npz"])


def test_two_files_of_one_name(tmp_path):
    with pytest.raises(UserError, match="^two networks are called npz:a"):
        main(["--out", str(tmp_path / "out"), "--features", "x/a.npz", "y/a.npz"])
