"""The exported file against its run, also in a Python without torch and DALI."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from dali_pipes.dali.eval_matrix import resize_matrix
from dali_pipes.eval_loader import EvalLoader
from eval.config import EQ6
from eval.export import main
from eval.exported import Header, Model
from eval.features.in_memory import ImagesInMemory
from eval.onnx_export import detector_file, graph
from eval.onnx_export.bank_compression import compressed_bank
from shards.errors import UserError
from shards.reader import ShardSet
from tests.dali_pipes.test_eval_loader import levels
from tests.support.commands import run_anew, run_command
from tests.support.image_sets import build_npy_set, smooth_images
from tests.support.paths import ROOT
from tests.support.picture_cases import write_damaged, write_pictures
from tests.support.run_cases import SIZE_PX, RunCase, write_run_case
from train.teacher import load_teacher

pytestmark = pytest.mark.slow

CENTRES = 12
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in (
            *("torch", "nvidia", "timm", "train", "dali_pipes", "onnx", "sklearn", "rich"),
            *("scipy", "matplotlib", "jinja2", "webdataset", "imagehash", "safetensors"),
        ):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from eval.exported import main
main(sys.argv[1:])
"""
"""A script for a Python that has only the packages that `eval.exported` may need."""


def command(case: RunCase, out: Path, *more: str) -> list[str]:
    sets = ["--in-dist-train", str(case.train), "--calibration", str(case.calibration)]
    return [str(case.run), *sets, "--score", EQ6, "--out", str(out), *more]


@pytest.fixture(scope="module")
def rgb(tmp_path_factory) -> tuple[RunCase, Path]:
    """A run on RGB images, and its file with the full bank."""
    folder = tmp_path_factory.mktemp("rgb")
    case = write_run_case(folder, channels=3)
    main(command(case, folder / "full.onnx", "--fpr", "0.1"))
    return case, folder / "full.onnx"


@pytest.fixture(scope="module")
def gray(tmp_path_factory) -> tuple[RunCase, Path]:
    """A run on gray images, and its file with a compressed bank."""
    folder = tmp_path_factory.mktemp("gray")
    case = write_run_case(folder, channels=1)
    more = "--bank", str(CENTRES), "--ood", str(case.other)
    main(command(case, folder / "small.onnx", *more))
    return case, folder / "small.onnx"


def header_of(path: Path) -> Header:
    return Header.from_metadata(path, Model(str(path)).metadata)


@pytest.mark.parametrize("count", [1, 3, 70])
def test_scores_are_those_of_the_run(rgb, count) -> None:
    case, path = rgb
    pixels = np.concatenate(
        [smooth_images(count // 2, SIZE_PX, 3, seed=8), pixels_of(case.other, count - count // 2)]
    )
    found, members = Model(str(path)).score(pixels)
    assert members.tolist() == [0] * count
    assert found.shape == (count,) and found.dtype == np.float32
    expected = case.detector(device="cpu").score(pixels).score
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def pixels_of(directory: Path, count: int) -> np.ndarray:
    with ShardSet.open(directory) as shards:
        return shards.read(np.arange(count) % len(shards))


@torch.no_grad()
def test_scores_by_a_compressed_bank_are_a_weighted_mean(gray) -> None:
    """The reference is Eq. 6 in numpy, with centres that are computed again."""
    case, path = gray
    detector = case.detector(device="cpu")
    bank = compressed_bank(detector.bank, CENTRES)
    pixels = pixels_of(case.other, 12)
    views = [v for _, v in EvalLoader(ImagesInMemory(pixels), 32, 12, torch.device("cpu"))]
    features = detector.teacher.backbone(torch.cat(views)).numpy().astype(np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    terms = np.exp(features @ bank.centres.numpy().T.astype(np.float64) / 0.04)
    expected = -np.log(terms @ bank.weights.numpy() / bank.weights.numpy().sum())
    np.testing.assert_allclose(Model(str(path)).score(pixels)[0], expected, rtol=0, atol=1e-4)
    assert header_of(path).bank["centres"] == len(bank.centres) <= CENTRES


def test_centres_are_the_directions_of_clusters(rgb) -> None:
    case, _ = rgb
    features = case.detector(device="cpu").bank
    directions = torch.nn.functional.normalize(features)
    small = compressed_bank(features, CENTRES)
    assert small.weights.sum() == 50
    nearest = (directions @ small.centres.T).argmax(dim=1)
    for cluster in range(len(small.centres)):
        mean = directions[nearest == cluster].double().mean(dim=0)
        assert torch.cosine_similarity(mean, small.centres[cluster].double(), dim=0) > 0.95
    np.testing.assert_allclose(small.centres.norm(dim=1), 1, rtol=1e-6)
    for count in (0, 50):
        with pytest.raises(UserError, match=f"^--bank is {count}, .*1 to 49"):
            compressed_bank(features, count)


def test_the_file_says_what_it_is_and_not_where_it_was_made(rgb, gray) -> None:
    case, path = rgb
    header, detector = header_of(path), case.detector(device="cpu")
    assert (header.format_version, header.fpr, header.tau) == (1, 0.1, 0.04)
    assert header.checkpoint == {"step": 3, "sha256": detector.teacher.sha256}
    assert header.rule == detector.rule
    np.testing.assert_allclose(
        header.calibration_scores, np.sort(detector.calibration_scores), rtol=0, atol=1e-4
    )
    assert header.threshold == header.calibration_scores[-4]  # k = 4 = 0.1 * 40
    for place in (str(ROOT), str(path.parent), sys.prefix, "site-packages"):
        assert place.encode() not in path.read_bytes()
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dimensions] == [0, SIZE_PX, SIZE_PX, 3]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8

    assert header_of(gray[1]).bank["features"] == 50
    assert header_of(gray[1]).bank["auroc"].keys() == {"other"}


def test_the_loss_of_auroc_is_measured(gray, tmp_path) -> None:
    """The reference is scikit-learn, on the scores of the two banks."""
    from sklearn.metrics import roc_auc_score

    case, path = gray
    pixels = [pixels_of(case.calibration, 39), pixels_of(case.other, 12)]
    is_ood = np.repeat([0, 1], [39, 12])
    detector = case.detector(device="cpu")
    found = header_of(path).bank["auroc"]["other"]
    kept = Model(str(path))
    for bank, scores_of in (
        ("full", lambda part: detector.score_pixels(part).score),
        ("kept", lambda part: kept.score(part)[0]),
    ):
        scores = np.concatenate([scores_of(part) for part in pixels])
        assert found[bank] == pytest.approx(roc_auc_score(is_ood, scores), abs=1e-12)


def test_a_folder_is_scored_without_trainer_torch_and_dali(rgb, tmp_path) -> None:
    case, path = rgb
    names = write_pictures(tmp_path / "p", SIZE_PX)
    noise = Image.fromarray(pixels_of(case.other, 1)[0])
    noise.save(tmp_path / "p" / "noise.png")
    write_damaged(tmp_path / "p")
    arguments = [path, tmp_path / "p", "--fpr", "0.2", "--out", tmp_path / "scores.csv"]
    result = run_anew("-c", WITHOUT, *arguments)
    assert result.returncode == 0, result.stderr
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == sorted([*names, "noise.png"])
    expected = case.detector(device="cpu").score([tmp_path / "p" / r["file"] for r in rows], 0.2)
    scores = [float(row["score"]) for row in rows]
    np.testing.assert_allclose(scores, expected.score, rtol=0, atol=1e-4)
    assert [float(row["p_value"]) for row in rows] == expected.p_value.tolist()
    assert [bool(int(row["is_ood"])) for row in rows] == expected.is_ood.tolist()
    assert 0 < expected.is_ood.sum() < len(rows)
    assert "calibrated on 39 images" in result.stdout
    assert "cut.png: cannot be decoded" in result.stdout
    again = run_command("-m", "eval.exported", *arguments)
    assert again.returncode == 2 and "exists already" in again.stderr


def test_a_file_that_is_none_of_ours(rgb, tmp_path) -> None:
    from eval.exported import main as score

    _, path = rgb
    write_pictures(tmp_path / "p", SIZE_PX)
    (tmp_path / "text.onnx").write_text("not a model")
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    onnx.helper.set_model_props(model, Model(str(path)).metadata | {"format_version": "2"})
    onnx.save(model, tmp_path / "later.onnx")
    for name, message in (
        ("none.onnx", "no such file"),
        ("text.onnx", "onnxruntime cannot load it"),
        ("bare.onnx", "was not made by eval/export.py"),
        ("later.onnx", "format_version is 2, expected 1"),
    ):
        with pytest.raises(UserError, match=f"{name}: {message}"):
            score([str(tmp_path / name), str(tmp_path / "p"), "--out", str(tmp_path / "out.csv")])
    with pytest.raises(UserError, match="but 39 calibration images"):
        out = str(tmp_path / "out.csv")
        score([str(path), str(tmp_path / "p"), "--fpr", "0.01", "--out", out])
    assert not (tmp_path / "out.csv").exists()


def test_metadata_that_is_not_as_it_must_be(rgb) -> None:
    """The version is checked first, because another version may have other fields."""
    metadata = Model(str(rgb[1])).metadata
    for changed, message in (
        ({"format_version": "2", "size_px": "[28, 28]"}, "format_version is 2, expected 1"),
        ({"size_px": "null"}, "was not made by eval/export.py .size_px is null"),
        ({"fpr": '"0.1"'}, "fpr is"),
        ({"calibration_scores": '[1.5, "2"]'}, "calibration_scores is"),
    ):
        with pytest.raises(UserError, match=message):
            Header.from_metadata(rgb[1], metadata | changed)
    with pytest.raises(UserError, match="format_version is 0, expected 1"):
        Header.from_metadata(rgb[1], {"format_version": "0"})


def test_a_folder_without_onnxruntime(tmp_path) -> None:
    without = "import sys; sys.modules['onnxruntime'] = None"
    start = (
        f"{without}; from shards.terminal import cli; from eval.exported import main; cli.run(main)"
    )
    arguments = [tmp_path / "file.onnx", tmp_path, "--out", tmp_path / "scores.csv"]
    result = run_anew("-c", start, *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("error: onnxruntime is not installed: pip install onnxruntime")


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_an_export_without_a_package(tmp_path, monkeypatch, package) -> None:
    assert package not in vars(graph)  # nothing imports the package before the check
    monkeypatch.setitem(sys.modules, package, None)
    nowhere = RunCase(*[tmp_path / "nowhere"] * 4)
    with pytest.raises(UserError, match=rf"^{package} is not installed: .* -e \.\[export\]"):
        main(command(nowhere, tmp_path / "out.onnx"))


def test_more_than_a_file_can_hold(rgb, tmp_path, monkeypatch) -> None:
    case, path = rgb
    weights = sum(p.nbytes for p in case.detector(device="cpu").teacher.backbone.parameters())
    monkeypatch.setattr(detector_file, "to_onnx", None)  # it must not be called
    monkeypatch.setattr(detector_file, "MOST_BYTES", weights + 50 * 32 * 4)
    with pytest.raises(UserError, match="--bank is full: .* by --bank N"):
        main(command(case, tmp_path / "out.onnx"))


def test_calibration_images_of_the_bank_are_recorded_if_allowed(rgb, tmp_path, monkeypatch) -> None:
    case, path = rgb
    mixed = np.concatenate([pixels_of(case.calibration, 20), pixels_of(case.train, 2)])
    shared = build_npy_set(tmp_path, "mixed", mixed)
    own = RunCase(case.run, case.train, shared, case.other)
    # The file in `path` has the same bank.
    monkeypatch.setattr(detector_file, "to_onnx", lambda *_: onnx.load(path))
    with pytest.raises(UserError, match="2 of in-dist-test are in in-dist-train too"):
        main(command(own, tmp_path / "out.onnx"))
    main(command(own, tmp_path / "out.onnx", "--allow-overlap"))
    overlap = header_of(tmp_path / "out.onnx").bank["overlap"]
    assert overlap == {"in-dist-train and in-dist-test": 2}
    assert not any(header_of(path).bank["overlap"].values())


def test_ood_sets_are_looked_at_as_in_a_scoring(rgb, tmp_path, monkeypatch, capsys) -> None:
    """`leaky` shares images with the calibration set and the bank; `other` is the auxiliary set."""
    case, path = rgb
    mixed = np.concatenate([pixels_of(case.train, 3), pixels_of(case.calibration, 30)])
    leaky = np.concatenate([mixed[:1], pixels_of(case.other, 4), mixed[-2:]])
    own = RunCase(case.run, case.train, build_npy_set(tmp_path, "mixed", mixed), case.other)
    ood = ["--ood", str(build_npy_set(tmp_path, "leaky", leaky)), str(case.other)]
    teacher = load_teacher(case.run, torch.device("cpu"))
    aux = json.loads((case.other / "manifest.json").read_text())["~sha256"]
    with_aux = dataclasses.replace(teacher, manifests={**teacher.manifests, "aux": aux})
    # The file in `path` has the same bank.
    monkeypatch.setattr(detector_file, "to_onnx", lambda *_: onnx.load(path))

    out = tmp_path / "out.onnx"
    with pytest.raises(UserError, match=r"1 of leaky are in in-dist-train too .*; 2 of leaky are"):
        main(command(case, out, *ood))
    monkeypatch.setattr("eval.detector.load_teacher", lambda *_: with_aux)
    with pytest.raises(UserError, match="^other: .*other is the auxiliary set that the run was"):
        main(command(case, out, "--ood", str(case.other)))
    assert not out.exists()

    main(command(own, out, *ood, "--allow-overlap"))
    assert "3 of 33 images of in-dist-test are in in-dist-train too" in capsys.readouterr().err
    header = header_of(out)
    assert header.bank["overlap"] == {
        "the auxiliary set that the run was trained on and other": 12,
        "in-dist-train and in-dist-test": 3,
        "in-dist-train and leaky": 1,
        "in-dist-test and leaky": 3,
    }
    kept = case.detector(device="cpu").score(mixed[3:]).score
    np.testing.assert_allclose(header.calibration_scores, np.sort(kept), rtol=0, atol=1e-4)


def test_a_file_with_other_scores_is_not_written(rgb, tmp_path, monkeypatch) -> None:
    case, path = rgb
    model = onnx.load(path)
    (weights,) = [i for i in model.graph.initializer if i.name.endswith("log_weights")]
    values = onnx.numpy_helper.to_array(weights)
    weights.CopyFrom(onnx.numpy_helper.from_array(values - 2e-4, weights.name))
    monkeypatch.setattr(detector_file, "to_onnx", lambda *_: model)
    with pytest.raises(UserError, match="not written: onnxruntime gives calibration image"):
        main(command(case, tmp_path / "out.onnx"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--bank", "half"], "^--bank is half"),
        (["--bank", "0"], "^--bank is 0"),
        (["--bank", "50"], "^--bank is 50, expected full, or 1 to 49"),
        (["--fpr", "0.01"], "but 39 calibration images"),
    ],
)
def test_options_out_of_range(rgb, tmp_path, more, message) -> None:
    with pytest.raises(UserError, match=message):
        main(command(rgb[0], tmp_path / "out.onnx", *more))
    assert not list(tmp_path.iterdir())


def test_a_file_is_never_overwritten(rgb) -> None:
    before = rgb[1].read_bytes()
    with pytest.raises(UserError, match="exists already"):
        main(command(*rgb))
    assert rgb[1].read_bytes() == before


@pytest.mark.parametrize("side_px", [28, 48, 112])
def test_the_resize_is_that_of_the_evaluation_graph(gray_set, side_px) -> None:
    pixels = gray_set.read(np.arange(20))
    matrix = resize_matrix(28, side_px).astype(np.float64)
    exact = matrix @ pixels[..., 0] @ matrix.T
    ((_, views),) = EvalLoader(ImagesInMemory(pixels), side_px, 20, torch.device("cpu"))
    # A value in the middle between two levels may be rounded either way.
    assert np.abs(levels(views)[..., 0] - np.clip(exact, 0, 255)).max() < 0.5 + 1e-4
