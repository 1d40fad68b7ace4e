"""Scoring of a folder of images by command: its files, its messages and its errors."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from eval.config import EQ6, ImagesConfig
from eval.decisions.verdicts import Scored
from eval.detector import Detector
from eval.score_images import score_images
from shards.errors import UserError
from shards.reader import ShardSet
from tests.support.image_sets import build_npy_set
from tests.support.picture_cases import write_damaged, write_pictures
from tests.support.run_cases import SIZE_PX, RunCase, write_run_case

STRANGE = [
    'a, "quoted" one.png',
    "two\nlines.png",
    "back\rwards.png",
    "=1+1.png",
    os.fsdecode(b"caf\xe9.png"),
]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> RunCase:
    return write_run_case(tmp_path_factory.mktemp("case"), channels=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures, some with names that a careless CSV file would break on, and damaged files."""
    folder = tmp_path / "folder"
    names = write_pictures(folder, SIZE_PX)
    for name in STRANGE:
        shutil.copy(folder / names[0], folder / name)
    write_damaged(folder)
    return folder


def options(case: RunCase, images: Path, out: Path, **more) -> ImagesConfig:
    sets = {"in_dist_train": case.train, "calibration": case.calibration}
    more = {"score": EQ6, "device": "cpu", **more}
    return ImagesConfig(run=case.run, **sets, images=images, out=out, **more)


def without_a_score(_, pixels: np.ndarray) -> Scored:
    return Scored(np.full(len(pixels), np.nan), ["teacher/eq6"] * len(pixels))


def rows(path: Path) -> list[list[str]]:
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def test_each_file_gets_a_verdict_or_a_reason(case, folder, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    score_images(options(case, folder, out, fpr=0.2), ["--some", "options"])
    assert sorted(path.name for path in out.iterdir()) == [
        "outliers.png",
        "results.json",
        "scores.csv",
        "unreadable.csv",
    ]
    header, *scores = rows(out / "scores.csv")
    assert header == ["file", "score", "p_value", "is_ood", "member"]
    unreadable = rows(out / "unreadable.csv")
    assert unreadable[0] == ["file", "reason"]
    assert [name for name, _ in unreadable[1:]] == ["cut.png", "empty.jpg", "notes.txt", "text.png"]

    bad = {name for name, _ in unreadable[1:]}
    found = [
        os.path.relpath(os.path.join(place, name), folder)
        for place, _, names in os.walk(folder)
        for name in names
        if name not in bad
    ]
    assert [row[0] for row in scores] == sorted(found, key=os.fsencode)
    expected = case.detector(device="cpu").score([folder / row[0] for row in scores], fpr=0.2)
    np.testing.assert_allclose([float(row[1]) for row in scores], expected.score, atol=1e-6)
    assert [float(row[2]) for row in scores] == expected.p_value.tolist()
    assert [row[3] for row in scores] == [str(int(is_ood)) for is_ood in expected.is_ood]

    results = json.loads((out / "results.json").read_text())
    called = int(expected.is_ood.sum())
    assert results["counts"] == {"in-dist-train": 50, "in-dist-test": 39, "images": len(scores)}
    assert results["images"]["unreadable"] == 4 and results["images"]["called_ood"] == called
    assert results["images"]["fpr"] == 0.2
    assert [score > results["images"]["threshold"] for score in expected.score] == list(
        expected.is_ood
    )
    assert results["bank_is_training_set"] is True
    assert results["checkpoint"]["step"] == 3 and results["command"] == ["--some", "options"]
    assert results["higher_is"] == "ood" and results["format_version"] == 2

    said = capsys.readouterr().out.splitlines()
    first = f"{called} of {len(scores)} images are called OOD at a false-positive rate of 20 % "
    assert said[0].startswith(first) and "calibrated on 39 images" in said[0]
    order = np.argsort(-expected.score, kind="stable")[:10]
    shown = [line.split(maxsplit=2) for line in said if line[:8].strip()[:2] == "0."][:10]
    assert [line[0] for line in shown] == [f"{expected.p_value[i]:.4f}" for i in order]
    assert "4 files cannot be read:" in said
    assert any(line.startswith("  cut.png: cannot be decoded") for line in said)


def test_a_name_cannot_write_to_the_terminal(case, tmp_path, capsys) -> None:
    write_pictures(tmp_path / "p", SIZE_PX)
    (tmp_path / "p" / "a.png").rename(tmp_path / "p" / "\x1b[2J.png")
    score_images(options(case, tmp_path / "p", tmp_path / "out"), [])
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\\x1b[2J.png" in said


def test_nothing_is_written_where_no_verdict_can_be_given(case, folder, tmp_path) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    write_damaged(damaged)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.txt").write_text("")
    out = tmp_path / "out"
    for images, fpr, message in (
        (damaged, 0.05, "none of 4 can be read"),
        (tmp_path / "texts", 0.05, "no images"),
        (tmp_path / "nowhere", 0.05, "no such file or folder"),
        (folder, 0.02, "but 39 calibration images"),
    ):
        with pytest.raises(UserError, match=message):
            score_images(options(case, images, out, fpr=fpr), [])
    with pytest.raises(UserError, match="are the same folder"):
        own = RunCase(case.run, case.train, case.train, case.other)
        score_images(options(own, folder, out), [])
    assert not out.exists()


def test_an_earlier_scoring_is_replaced(case, folder, tmp_path) -> None:
    out = tmp_path / "out"
    score_images(options(case, folder, out), [])
    before = (out / "scores.csv").read_bytes()
    (folder / "a.png").unlink()
    score_images(options(case, folder, out), [])
    after = (out / "scores.csv").read_bytes()
    assert b'"a.png"' in before and b'"a.png"' not in after


def test_files_without_a_score_are_named(case, folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Detector, "score_pixels", without_a_score)
    named = r'=1\+1.png, a, "quoted" one.png, '
    with pytest.raises(UserError, match=f"^images: .* scores are not finite, of {named}"):
        score_images(options(case, folder, tmp_path / "out"), [])
    assert not (tmp_path / "out").exists()


def test_what_is_left_out_of_the_calibration_is_recorded(case, folder, tmp_path, capsys) -> None:
    with ShardSet.open(case.train) as bank, ShardSet.open(case.calibration) as calibration:
        pixels = [bank.read(np.arange(4)), calibration.read(np.arange(30))]
    mixed = build_npy_set(tmp_path, "mixed", np.concatenate(pixels))
    own, out = RunCase(case.run, case.train, mixed, case.other), tmp_path / "out"
    score_images(options(own, folder, out, allow_overlap=True), [])
    results = json.loads((out / "results.json").read_text())
    assert results["overlap"] == {"in-dist-train and in-dist-test": 4}
    assert results["counts"]["in-dist-test"] == 30
    said = capsys.readouterr()
    assert "4 of 34 images of in-dist-test are in in-dist-train too" in said.err
    assert "calibrated on 30 images" in said.out


def test_it_is_for_one_process(case, folder, tmp_path, monkeypatch) -> None:
    given = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="^--images is for one process"):
        score_images(options(case, folder, tmp_path / "out"), [])


def test_one_image_is_scored_as_in_its_folder(case, tmp_path) -> None:
    folder = tmp_path / "folder"
    name = write_pictures(folder, SIZE_PX)[0]
    unnamed = tmp_path / "no-ending"
    shutil.copy(folder / name, unnamed)
    score_images(options(case, folder, tmp_path / "all"), [])
    expected = next(row for row in rows(tmp_path / "all" / "scores.csv") if row[0] == name)
    for image in (folder / name, unnamed):
        score_images(options(case, image, tmp_path / "one"), [])
        header, *found = rows(tmp_path / "one" / "scores.csv")
        assert [row[0] for row in found] == [image.name] and found[0][2:] == expected[2:]
        assert float(found[0][1]) == pytest.approx(float(expected[1]), abs=1e-5)
    text = tmp_path / "text.txt"
    text.write_text("no image")
    with pytest.raises(UserError, match=f"^{text}"):
        score_images(options(case, text, tmp_path / "one"), [])
