"""What a report shows of the run itself: never at the price of the scoring."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import PIL
import pytest
import scipy
import torch

from dali_pipes.batch import ViewSpec
from eval.report.page_data import report_data
from eval.results.collect import described, training_command, versions
from eval.sets.opening import BANK, TEST, EvalSets
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.reader import ShardSet
from tests.support.image_sets import build_npy_set
from tests.support.paths import ROOT
from train.config import RunConfig
from train.reports.run_notes import notes
from train.teacher import LoadedTeacher
from train.world import World

SIDE_PX = 8


def images(count: int, side_px: int = SIDE_PX, channels: int = 3) -> np.ndarray:
    shape = (count, side_px, side_px, 3)[: 4 if channels == 3 else 3]
    return np.random.default_rng(side_px + channels).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folders(tmp_path) -> dict[str, Path]:
    """A training set, an auxiliary one, and sets of other images, of three shapes."""
    return {
        "train": build_npy_set(tmp_path, "train", images(9)),
        "aux": build_npy_set(tmp_path, "aux", images(7)[::-1]),
        "same": build_npy_set(tmp_path, "same", images(8)),
        "larger": build_npy_set(tmp_path, "larger", images(8, side_px=12)),
        "gray": build_npy_set(tmp_path, "gray", images(8, channels=1)),
    }


def shown(tmp_path: Path, folders: dict[str, Path], bank: str):
    """The report of a run on `train` and `aux` that is scored by `bank`, and what is told."""
    config = RunConfig(
        in_dist=folders["train"],
        aux=folders["aux"],
        out=tmp_path,
        negatives="rot",
        views=ViewSpec(global_px=SIDE_PX, local_px=4, local_views=2),
    )
    told: list[str] = []
    with ShardSet.open(folders["train"]) as train, ShardSet.open(folders[bank]) as shards:
        manifests = {"in-dist": train.manifest.sha256}
        none = cast(Any, None)  # a report does not look at the network itself
        teacher = LoadedTeacher(none, none, none, config, 3, "", manifests)
        sets = EvalSets({BANK: len(shards)}, {BANK: shards})
        return report_data({}, {}, sets, {}, tmp_path, teacher, told.append), told


def test_views_are_of_the_training_set(tmp_path, folders):
    data, told = shown(tmp_path, folders, "train")
    of_train = {image.tobytes() for image in images(9)}
    (_, sources), *views = data.views
    assert sources and views and told == []
    assert all(np.asarray(image).tobytes() in of_train for image in sources)


@pytest.mark.parametrize("bank", ["same", "larger", "gray"])
def test_views_of_another_bank_are_not_what_the_network_was_shown(tmp_path, folders, bank):
    data, told = shown(tmp_path, folders, bank)
    assert data.views == [] and told == []


@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_auxiliary_images_that_are_no_longer_as_they_were(tmp_path, folders, damage):
    if damage == "gone":
        shutil.rmtree(folders["aux"])
    elif damage == "cut":
        (shard,) = folders["aux"].glob("*.tar")
        shard.write_bytes(shard.read_bytes()[:-1024])
    else:
        folders["aux"] = folders["gray"]
    data, told = shown(tmp_path, folders, "train")
    assert data.views == []
    assert damage == "gone" or (len(told) == 1 and str(folders["aux"]) in told[0])


def test_a_report_of_the_run_that_is_cut_short_is_left_out(tmp_path, folders):
    reports = [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "loss": None, "warnings": {"a": "é"}}]
    lines = [json.dumps(report) for report in reports]
    for end in ("", '{"step": 3, "lo', '{"step": 3}', "{"):
        (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, end]))
        data, _ = shown(tmp_path, folders, "same")
        assert data.reports == reports


# --------------------------------------------------------------------------- what numbers are of


def test_how_pixels_of_each_set_came_to_be_is_known(tmp_path, folders):
    listed = tmp_path / "leave-out.jsonl"
    listed.write_text('{"name": "2"}\n{"name": "5"}\n')
    np.save(tmp_path / "large.npy", images(7, side_px=12))
    build(
        BuildRequest(
            source="npy",
            src=tmp_path / "large.npy",
            out=tmp_path / "ood",
            size_px=SIDE_PX,
            resize="pillow-bilinear",
            encoding="jpg",
            exclude=listed,
        )
    )
    directories = {BANK: folders["train"], TEST: folders["same"], "ood": tmp_path / "ood"}
    shards = {name: ShardSet.open(folder) for name, folder in directories.items()}
    found = described(EvalSets({n: len(s) for n, s in shards.items()}, shards), None, [])
    kept = ("resize", "encoding", "excluded")
    assert [[found["manifests"][name][key] for key in kept] for name in directories] == [
        ["none", "raw", 0],
        ["none", "raw", 0],
        ["pillow-bilinear", "jpg", 2],
    ]


@pytest.mark.parametrize("steps", [9, 30])  # finished, and not
def test_the_command_of_a_run_is_that_of_its_notes(tmp_path, monkeypatch, steps):
    command = [
        "train/main.py",
        "auto",
        "--out",
        "a 'new'\nfolder",
        "--in-dist",
        "## Made by\n\n    x",
    ]
    monkeypatch.setattr("sys.argv", command)
    config = RunConfig(in_dist=tmp_path, out=tmp_path)
    state = cast(Any, SimpleNamespace(step=9))
    told = [{"step": 9, "warnings": {"a": "## Made by"}}]
    assert training_command(tmp_path) is None
    text = notes(config, World(0, 1, torch.device("cpu")), state, steps, told)
    (tmp_path / "README.md").write_text(text)
    found = training_command(tmp_path)
    assert found is not None and shlex.split(found) == ["python", *command]
    (tmp_path / "README.md").write_text("# Something else\n\n    python train/main.py\n")
    assert training_command(tmp_path) is None


def test_versions_are_those_of_the_packages_themselves():
    import nvidia.dali

    found = versions()
    assert found["dali"] == nvidia.dali.__version__
    assert found["scipy"] == scipy.__version__ and found["pillow"] == PIL.__version__
    setup = (ROOT / "setup.py").read_text()
    assert f'version="{found["oodino"]}"' in setup
