"""The detector against Eq. 6 in numpy, and single images against shard sets of the same images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dali_pipes.eval_loader import EvalLoader
from eval.decisions.images import prepare, rule_of
from eval.features.in_memory import ImagesInMemory
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.errors import UserError
from shards.reader import ShardSet
from tests.support.image_sets import build_npy_set, smooth_images
from tests.support.picture_cases import write_damaged, write_pictures
from tests.support.run_cases import SIZE_PX, VIEW_PX, RunCase, write_run_case
from train.teacher import load_teacher

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> RunCase:
    return write_run_case(tmp_path_factory.mktemp("case"), channels=3)


def folder_set(source: Path, out: Path, **options) -> ShardSet:
    request = {"source": "folder", "src": source, "size_px": SIZE_PX, "out": out, **options}
    build(BuildRequest(**request))
    return ShardSet.open(out)


def pixels_of(directory: Path) -> np.ndarray:
    with ShardSet.open(directory) as shards:
        return shards.read(np.arange(len(shards)))


@torch.no_grad()
def eq6_by_definition(case: RunCase, pixels: np.ndarray) -> np.ndarray:
    """Compute the log form of Eq. 6 in numpy, in float64, with all cosines at once."""
    backbone = load_teacher(case.run, CPU).backbone
    unit = []
    for images in (pixels, pixels_of(case.train)):
        views = torch.cat(
            [views for _, views in EvalLoader(ImagesInMemory(images), VIEW_PX, 99, CPU)]
        )
        features = backbone(views).numpy().astype(np.float64)
        unit.append(features / np.linalg.norm(features, axis=1, keepdims=True))
    return -np.log(np.exp(unit[0] @ unit[1].T / 0.04).mean(axis=1))


def test_scores_and_decisions_are_those_of_the_definition(case) -> None:
    pixels = np.concatenate([pixels_of(case.other), smooth_images(12, SIZE_PX, 3, seed=12)])
    scores = eq6_by_definition(case, pixels)
    calibration = eq6_by_definition(case, pixels_of(case.calibration))
    expected = [(1 + sum(calibration >= score)) / 40 for score in scores]
    assert np.abs(np.subtract.outer(scores, calibration)).min() > 1e-4, "rounding decides"
    fpr = sorted(set(expected))[1]  # equal to the p-value of an image: a boundary case
    found = case.detector(device="cpu").score(pixels, fpr=fpr)
    np.testing.assert_allclose(found.score, scores, rtol=0, atol=1e-5)
    assert found.p_value.tolist() == expected
    assert found.is_ood.tolist() == [p <= fpr for p in expected]
    assert 0 < found.is_ood.sum() < len(pixels) and not found.errors


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize(
    ("encoding", "resize"),
    [
        ("raw", "pillow-bicubic"),
        ("raw", "pillow-bilinear"),
        ("png", "pillow-bilinear-crop"),
        ("jpg", "pillow-bicubic"),
    ],
)
def test_a_file_has_the_pixels_that_a_set_has_of_it(tmp_path, encoding, resize, channels) -> None:
    names = write_pictures(tmp_path / "pictures", SIZE_PX)
    options = {"encoding": encoding, "resize": resize, "channels": channels}
    with folder_set(tmp_path / "pictures", tmp_path / "set", **options) as shards:
        rule = rule_of(shards.manifest, shards.manifest)
        assert sorted(shards.names()) == names
        for name, pixels in zip(shards.names(), shards.read(np.arange(len(shards))), strict=True):
            found = prepare((tmp_path / "pictures" / name).read_bytes(), rule)
            np.testing.assert_array_equal(found, pixels, err_msg=name)


def test_the_rule_is_that_of_the_set_whose_images_were_resized(tmp_path) -> None:
    write_pictures(tmp_path / "pictures", SIZE_PX)
    by = {
        rule: folder_set(tmp_path / "pictures", tmp_path / rule, resize=rule).manifest
        for rule in ("pillow-bilinear", "pillow-bilinear-crop")
    }
    own_size = build_npy_set(tmp_path, "own", smooth_images(3, SIZE_PX, 3, seed=0))
    none = ShardSet.open(own_size).manifest
    assert rule_of(by["pillow-bilinear"], by["pillow-bilinear-crop"]).resize == "pillow-bilinear"
    assert rule_of(none, by["pillow-bilinear-crop"]).resize == "pillow-bilinear-crop"
    assert rule_of(none, none).resize == "pillow-bicubic"


@pytest.fixture(scope="module")
def calibrated(case, tmp_path_factory) -> tuple[RunCase, Path, list[str]]:
    """A run, calibrated on a set of image files; the folder of the files, and their names by id."""
    folder = tmp_path_factory.mktemp("calibrated")
    for part in range(3):
        write_pictures(folder / "pictures" / str(part), SIZE_PX, seed=50 + part)
    with folder_set(folder / "pictures", folder / "set") as shards:
        names = shards.names()
    own = RunCase(case.run, case.train, folder / "set", case.other)
    return own, folder / "pictures", names


def test_an_image_scores_alike_in_a_set_and_in_a_folder(calibrated) -> None:
    case, folder, names = calibrated
    detector = case.detector(device="cpu")
    found = detector.score([folder / name for name in names], fpr=0.3)
    np.testing.assert_allclose(found.score, detector.calibration_scores, rtol=0, atol=1e-6)
    assert len(names) == 24 and not found.errors


def test_files_pillow_images_and_arrays_score_alike(calibrated) -> None:
    case, folder, names = calibrated
    detector = case.detector(device="cpu")
    files = [folder / name for name in names]
    by_name = detector.score([str(file) for file in files])
    images = [Image.open(file) for file in files]
    np.testing.assert_array_equal(detector.score(images).score, by_name.score)
    wide = [prepare(file.read_bytes(), detector.rule) for file in files]
    np.testing.assert_array_equal(detector.score(np.stack(wide)).score, by_name.score)


def test_an_image_scores_alike_alone_and_with_others(case, monkeypatch) -> None:
    pixels = pixels_of(case.other)
    together = case.detector(device="cpu").score(pixels).score
    monkeypatch.setattr("eval.decisions.images.CHUNK_BYTES", 5 * pixels[0].size)
    few = case.detector(device="cpu", batch=2).score(list(pixels)).score
    np.testing.assert_allclose(few, together, rtol=0, atol=1e-5)


def test_what_cannot_be_read_is_named_and_the_rest_is_scored(case, tmp_path) -> None:
    detector = case.detector(device="cpu")
    names = write_pictures(tmp_path / "p", SIZE_PX)
    damaged = write_damaged(tmp_path / "p")
    del damaged["notes.txt"]  # a single file is read whatever its name is
    files = [tmp_path / "p" / name for name in (*names[:2], *damaged, *names[2:], "missing.png")]
    found = detector.score([*files, Image.new("F", (9, 9))])
    reasons = [*damaged.values(), "No such file", "holds floats"]
    assert list(found.errors) == [2, 3, 4, 11, 12]
    for reason, error in zip(reasons, found.errors.values(), strict=True):
        assert reason in error
    bad = np.isin(np.arange(len(files) + 1), list(found.errors))
    for values in (found.score, found.p_value):
        np.testing.assert_array_equal(np.isnan(values), bad)
    assert not found.is_ood[bad].any()
    alone = detector.score([tmp_path / "p" / name for name in names])
    np.testing.assert_array_equal(found.p_value[~bad], alone.p_value)


def test_no_image_at_all(case, tmp_path) -> None:
    detector = case.detector(device="cpu")
    with pytest.raises(UserError, match="none of 1 can be read; the first No such file"):
        detector.score([tmp_path / "missing.png"])
    with pytest.raises(UserError, match="none of 0 can be read"):
        detector.score([])


@pytest.mark.parametrize(
    ("image", "size"),
    [
        (np.zeros((0, 9, 3), np.uint8), "a height of 0 px and a width of 9 px"),
        (np.zeros((9, 0, 1), np.uint8), "a height of 9 px and a width of 0 px"),
        (Image.new("RGB", (9, 0)), "a height of 0 px and a width of 9 px"),
    ],
)
def test_an_image_without_pixels(case, image, size) -> None:
    good = np.zeros((9, 9, 3), np.uint8)
    with pytest.raises(ValueError, match=rf"^images\[2\] has {size}"):
        case.detector(device="cpu").score([good, good, image])


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_images_without_a_score_are_named(case, tmp_path, monkeypatch, value) -> None:
    """The second chunk has flat images, whose feature is `value`."""
    detector = case.detector(device="cpu", batch=2)

    def spoil(_, inputs, features):
        is_flat = (inputs[0].flatten(2).std(dim=2) < 1e-3).all(dim=1)
        return features.masked_fill(is_flat[:, None], value)

    detector.teacher.backbone.register_forward_hook(spoil)
    monkeypatch.setattr("eval.decisions.images.CHUNK_BYTES", 5 * SIZE_PX * SIZE_PX * 3)
    flat = np.full((SIZE_PX, SIZE_PX, 3), 90, np.uint8)
    Image.fromarray(flat).save(tmp_path / "flat.png")
    noise = list(pixels_of(case.other))
    named = rf"^images: 2 scores are not finite, of {tmp_path}/flat.png, images\[8\]; "
    with pytest.raises(UserError, match=named):
        detector.score([*noise[:7], tmp_path / "flat.png", flat, *noise[7:]])
    alone = r"^images: 1 scores are not finite, of images\[0\]; "
    with pytest.raises(UserError, match=alone):
        detector.score([flat])


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9, 3)), np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8)]
)
def test_an_array_that_is_no_image(case, image) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[H, W, 1 or 3\]"):
        case.detector(device="cpu").score([image])


@pytest.mark.parametrize("image", ["photo.jpg", Path("photo.jpg"), Image.new("L", (9, 9))])
def test_one_image_that_is_in_no_list(case, image) -> None:
    with pytest.raises(ValueError, match=r"^images is .*, expected a list of images"):
        case.detector(device="cpu").score(image)


def test_features_in_fp32_are_so_in_convolutions_too(case) -> None:
    detector = case.detector(device="cpu")
    before, during = torch.backends.cudnn.allow_tf32, []
    detector.teacher.backbone.register_forward_hook(
        lambda *_: during.append(torch.backends.cudnn.allow_tf32)
    )
    detector.score(pixels_of(case.other))
    assert before and during == [False] and torch.backends.cudnn.allow_tf32


def test_a_rate_that_is_too_low(case) -> None:
    with pytest.raises(UserError, match="but 39 calibration images .*1/40 "):
        case.detector(device="cpu").score(pixels_of(case.other), fpr=0.024)


def test_calibration_must_be_new_to_run_and_bank(case, tmp_path) -> None:
    with pytest.raises(UserError, match="are the same folder"):
        RunCase(case.run, case.train, case.train, case.other).detector(device="cpu")
    with pytest.raises(UserError, match="is the set that the run was trained on"):
        RunCase(case.run, case.other, case.train, case.other).detector(device="cpu")
    mixed = np.concatenate([pixels_of(case.other), pixels_of(case.train)[:2]])
    shared = build_npy_set(tmp_path, "mixed", mixed)
    own = RunCase(case.run, case.train, shared, case.other)
    with pytest.raises(UserError, match="2 of in-dist-test are in in-dist-train too"):
        own.detector(device="cpu")


def test_images_of_the_bank_are_left_out_of_the_calibration(case, tmp_path, capsys) -> None:
    bank, new = pixels_of(case.train), smooth_images(18, SIZE_PX, 3, seed=13)
    mixed = build_npy_set(tmp_path, "mixed", np.concatenate([new[:9], bank[:3], new[9:]]))
    own = RunCase(case.run, case.train, mixed, case.other)
    detector = own.detector(device="cpu", allow_overlap=True)
    assert detector.provenance.overlap == {"in-dist-train and in-dist-test": 3}
    said = "3 of 21 images of in-dist-test are in in-dist-train too, and are left out of the "
    assert capsys.readouterr().err == f"{said}calibration\n"

    pixels = pixels_of(mixed)
    kept = [i for i, image in enumerate(pixels) if not (image == bank).all(axis=(1, 2, 3)).any()]
    assert detector.calibration_ids.tolist() == kept and len(kept) == 18
    calibration = eq6_by_definition(case, pixels[kept])
    np.testing.assert_allclose(detector.calibration_scores, calibration, rtol=0, atol=1e-5)
    asked = pixels_of(case.calibration)
    scores = eq6_by_definition(case, asked)
    assert np.abs(np.subtract.outer(scores, calibration)).min() > 1e-5, "rounding decides"
    expected = [(1 + sum(calibration >= score)) / (len(kept) + 1) for score in scores]
    assert detector.score(asked, fpr=0.5).p_value.tolist() == expected
    with pytest.raises(UserError, match="but 18 calibration images"):
        detector.score(asked, fpr=0.05)  # 21 images would be enough for this rate

    only = build_npy_set(tmp_path, "only", bank[:3])
    own = RunCase(case.run, case.train, only, case.other)
    with pytest.raises(UserError, match="^in-dist-test: all 3 images are in in-dist-train too"):
        own.detector(device="cpu", allow_overlap=True)
