"""The ensemble of a run: in Python, as a command, in the tables and as an ONNX file."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity

from eval.export import main as export
from eval.exported import Header, Model
from eval.outliers.spoil import spoiled
from eval.score import main as score
from eval.spoil import main as spoil
from shards.errors import UserError
from shards.reader import ShardSet
from tests.support.image_sets import build_npy_set, smooth_images
from tests.support.run_cases import RunCase, write_run_case

pytestmark = pytest.mark.slow

CALIBRATED_ON = 81


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> RunCase:
    folder = tmp_path_factory.mktemp("case")
    case = write_run_case(folder, channels=3, calibrated_on=CALIBRATED_ON)
    (case.run / "README.md").write_text("# A run\n")
    return case


@pytest.fixture(scope="module")
def detector(case):
    return case.detector(device="cpu", score="ensemble")


@pytest.fixture(scope="module")
def scored(case, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("scored") / "out"
    score(
        [
            *(str(case.run), "--in-dist-train", str(case.train)),
            *("--in-dist-test", str(case.calibration), "--ood", str(case.other)),
            *("--baselines", "--device", "cpu", "--k", "5", "--out", str(out)),
        ]
    )
    return out


def pixels_of(directory: Path) -> np.ndarray:
    with ShardSet.open(directory) as shards:
        return shards.read(np.arange(len(shards)))


def test_every_second_image_tunes_and_the_others_calibrate(case, detector) -> None:
    assert detector.calibration_ids.tolist() == list(range(1, CALIBRATED_ON, 2))
    expected = pixels_of(case.calibration)[::2]
    np.testing.assert_array_equal(detector.ensemble.tuning, expected)
    found = detector.score(pixels_of(case.calibration)[1::2], fpr=0.1)
    np.testing.assert_allclose(found.score, detector.calibration_scores, atol=1e-5)


def test_the_score_is_the_weighted_sum_of_limited_z_scores(case, detector) -> None:
    """Of members that are scored alone, one detector for each."""
    pixels, tuning = pixels_of(case.other), pixels_of(case.calibration)[::2]
    total, weighed = np.zeros(len(pixels)), 0
    ensemble = detector.ensemble
    for member, weight in zip(ensemble.members, ensemble.weights, strict=True):
        if not weight or member.key.startswith("teacher-turned"):
            assert not weight or len(member.parts) == 4
            continue
        alone = case.detector(device="cpu", score=member.key)
        normal = alone.score(tuning, fpr=0.1).score
        z = (alone.score(pixels, fpr=0.1).score - normal.mean()) / normal.std()
        total += weight * z.clip(-5, 20)
        weighed += 1
    turned = [m for m in ensemble.weighing if m.key.startswith("teacher-turned")]
    assert weighed + len(turned) == len(ensemble.weighing) >= 3
    if not turned:
        found = detector.score(pixels, fpr=0.1)
        np.testing.assert_allclose(found.score, total, rtol=1e-3)


def test_the_file_gives_the_same_scores_and_members(case, detector, tmp_path) -> None:
    path = tmp_path / "file.onnx"
    sets = ["--in-dist-train", str(case.train), "--calibration", str(case.calibration)]
    export([str(case.run), *sets, "--out", str(path)])
    pixels = pixels_of(case.other)
    expected = detector.score(pixels, fpr=0.1)
    model = Model(str(path))
    scores, numbers = model.score(pixels)
    np.testing.assert_allclose(scores, expected.score, rtol=0, atol=1e-4)
    header = Header.from_metadata(path, model.metadata)
    assert [header.members[number] for number in numbers] == expected.member
    np.testing.assert_allclose(
        header.calibration_scores, np.sort(detector.calibration_scores), rtol=0, atol=1e-4
    )
    with pytest.raises(UserError, match="--bank is 5, but --score is ensemble"):
        export([str(case.run), *sets, "--bank", "5", "--out", str(tmp_path / "other.onnx")])


def test_the_tables_hold_the_ensemble_and_its_members(case, detector, scored) -> None:
    results = json.loads((scored / "results.json").read_text())
    facts = results["ensemble"]
    assert results["score"] == "ensemble" and results["headline"] == "teacher"
    assert (facts["tuning_images"], facts["evaluation_images"]) == (41, 40)
    expected = dict(
        zip((m.key for m in detector.ensemble.members), detector.ensemble.weights, strict=True)
    )
    assert {key: member["weight"] for key, member in facts["members"].items()} == pytest.approx(
        expected, abs=1e-6
    )
    found = detector.score(pixels_of(case.other), fpr=0.1).score
    is_ood = np.repeat([0, 1], [40, len(found)])
    reference = roc_auc_score(is_ood, np.r_[detector.calibration_scores, found])
    assert facts["score"]["all"]["auroc"]["value"] == pytest.approx(reference, abs=1e-9)
    table = (scored / "table.md").read_text().splitlines()
    first = next(number for number, line in enumerate(table) if line.startswith("|---"))
    rows = [line.replace("*", "").split("|")[1:4] for line in table[first + 1 :]]
    rows = [(label.strip(), float(auroc)) for label, auroc, *_ in rows[: rows.index([])]]
    assert rows == sorted(rows, key=lambda row: -row[1]) and len(rows) == 29
    assert ("ensemble", round(100 * reference, 2)) in rows
    alone = facts["members"]["pixels/lof"]["auroc"]
    assert ("pixels, local outlier factor", round(100 * alone, 2)) in rows
    with (scored / "scores" / "in-dist-test.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == list(range(1, CALIBRATED_ON, 2))
    page = (scored / "report.html").read_text()
    assert "Synthetic outliers" in page and "pixels, isolation forest" in page
    sheet = Image.open(scored / "outliers.png")
    assert sheet.height > sheet.width


def test_the_readme_of_the_run_says_what_its_detector_sees(case, detector, scored) -> None:
    sight = json.loads((scored / "results.json").read_text())["ensemble"]["sight"]
    assert detector.sight.keys() == sight.keys() and len(sight) == 16
    text = (case.run / "README.md").read_text()
    assert text.startswith("# A run\n\n## What its detector sees\n\nAUROC in % on synthetic")
    assert f"bank: `{case.train}`; held out: `{case.calibration}`." in text
    for family, auroc in sight.items():
        value, low, high = (f"{100 * auroc[end]:.2f}" for end in ("value", "low", "high"))
        assert f"\n| {family} | {value} | {low} to {high} |\n" in text
        assert detector.sight[family].value == pytest.approx(auroc["value"], abs=1e-6)


def test_a_member_can_be_chosen_and_a_wrong_name_lists_them(case) -> None:
    alone = case.detector(device="cpu", score="pixels/isolation-forest")
    assert len(alone.calibration_ids) == CALIBRATED_ON
    assert set(alone.score(pixels_of(case.other), fpr=0.1).member) == {"pixels/isolation-forest"}
    with pytest.raises(UserError, match="--score is knn-55, expected ensemble or one of eq6.*"):
        case.detector(device="cpu", score="knn-55")


def test_features_of_another_program_are_members(case, tmp_path, capsys) -> None:
    """The other program takes square roots of pixels."""
    written = tmp_path / "tuning.npz"
    spoil(["--in-dist-test", str(case.calibration), "--out", str(written)])
    with np.load(written) as file:
        images, family = file["images"], file["family"]
    tuning = pixels_of(case.calibration)[::2]
    np.testing.assert_array_equal(images[family == "normal"], tuning)
    expected = spoiled(tuning, "paste", 0, tuning).images
    np.testing.assert_array_equal(images[family == "paste"], expected)

    def features(pixels: np.ndarray) -> np.ndarray:
        return np.sqrt(pixels.reshape(len(pixels), -1) / 255).astype(np.float32)

    of_sets = {
        "in-dist-train": features(pixels_of(case.train)),
        "in-dist-test": features(pixels_of(case.calibration)),
        case.other.name: features(pixels_of(case.other)),
    }
    with_outliers = {**of_sets, "synthetic-outliers": features(images)}
    np.savez(tmp_path / "roots.npz", **with_outliers)
    np.savez(tmp_path / "plain.npz", **of_sets)
    of_outliers = with_outliers["synthetic-outliers"]
    np.savez(tmp_path / "short.npz", **{**with_outliers, "synthetic-outliers": of_outliers[1:]})
    of_outliers[3] = np.nan
    np.savez(tmp_path / "nan.npz", **with_outliers)

    def command(name: str) -> list[str]:
        return [
            *("--in-dist-train", str(case.train), "--in-dist-test", str(case.calibration)),
            *("--ood", str(case.other), "--features", str(tmp_path / name)),
            *("--device", "cpu", "--k", "5", "--out", str(tmp_path / "out")),
        ]

    score(command("roots.npz"))
    facts = json.loads((tmp_path / "out" / "results.json").read_text())["ensemble"]
    member = facts["members"]["npz:roots/knn-5"]
    normal, bank = (of_sets[name].astype(float) for name in ("in-dist-test", "in-dist-train"))
    paste = features(expected).astype(float)
    for positives, negatives, auroc in (
        (of_sets[case.other.name].astype(float), normal[1::2], member["auroc"]),
        (paste, normal[::2], facts["sight_of_members"]["paste"]["npz:roots/knn-5"]),
    ):
        scores = [-np.sort(cosine_similarity(each, bank))[:, -5] for each in (negatives, positives)]
        is_ood = np.repeat([0, 1], [len(negatives), len(positives)])
        assert auroc == pytest.approx(roc_auc_score(is_ood, np.concatenate(scores)), abs=2e-3)
    capsys.readouterr()
    score(command("plain.npz"))
    facts = json.loads((tmp_path / "out" / "results.json").read_text())["ensemble"]
    assert not any(key.startswith("npz:") for key in facts["members"])
    assert "plain.npz: no array synthetic-outliers" in capsys.readouterr().err
    count = len(images)
    with pytest.raises(
        UserError, match=f"synthetic-outliers has {count - 1} rows, expected {count}"
    ):
        score(command("short.npz"))
    with pytest.raises(UserError, match=r"^synthetic-outliers \(nan.npz\): 1 of .*NaN.*ids 3"):
        score(command("nan.npz"))


@pytest.fixture(scope="module")
def gray_case(tmp_path_factory) -> RunCase:
    return write_run_case(tmp_path_factory.mktemp("gray"), channels=1, calibrated_on=81)


@pytest.mark.parametrize(
    ("bank", "told", "members"),
    [
        (np.full((50, 14, 14), 77, np.uint8), "local outlier factor: the 50 features", {"eq6"}),
        (
            smooth_images(4, 14, 1, seed=3),
            "pixels: left out: 5 nearest neighbours, Euclid, 5-th nearest neighbour, centred "
            "cosine: the bank has 4 features, too few: it needs 5",
            {"eq6", "mahalanobis", "lof", "ledoit-wolf", "isolation-forest", "pca-residual"},
        ),
    ],
    ids=["equal images", "few images"],
)
def test_scores_that_cannot_be_fitted_are_left_out(
    gray_case, tmp_path, capsys, bank, told, members
) -> None:
    train = build_npy_set(tmp_path, "bank", bank)
    found = replace(gray_case, train=train).detector(
        device="cpu", score="ensemble", allow_overlap=True
    )
    assert told in capsys.readouterr().err
    assert {member.key.rpartition("/")[2] for member in found.ensemble.members} == members
    assert np.isfinite(found.score(smooth_images(5, 14, 1, seed=4)[..., None], fpr=0.1).score).all()


def test_equal_tuning_images_give_equal_weights(gray_case, tmp_path, capsys) -> None:
    equal = build_npy_set(tmp_path, "equal", np.full((60, 14, 14), 77, np.uint8))
    found = replace(gray_case, calibration=equal).detector(device="cpu", score="ensemble")
    assert len(set(found.ensemble.weights.tolist())) == 1
    assert "no score tells one of 30 tuning images from another" in capsys.readouterr().err


def test_with_few_tuning_images_all_weights_are_equal(tmp_path, capsys) -> None:
    small = write_run_case(tmp_path, channels=1, calibrated_on=39)
    ensemble = small.detector(device="cpu", score="ensemble").ensemble
    assert len(set(ensemble.weights.tolist())) == 1
    assert "tuned on 20 images, fewer than 30" in capsys.readouterr().err
