"""The part of a report about the run: a fault in it never stops the scoring."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import PIL
import pytest
import scipy

from dali_pipes.batch import ViewSpec
from eval.report.page_data import report_data
from eval.results.collect import provenance_of
from eval.sets.opening import BANK, TEST, EvalSets
from eval.versions import versions
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.reader import ShardSet
from tests.support.image_sets import build_npy_set
from tests.support.paths import ROOT
from train.config import RunConfig
from train.teacher import LoadedTeacher

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
    """Return the report of a run on `train` and `aux` with another `bank`, and the lines told."""
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
        return report_data({}, {}, None, sets, {}, tmp_path, teacher, told.append), told


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


# ------------------------------------------------------------------------------- provenance


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
    found = provenance_of(EvalSets({n: len(s) for n, s in shards.items()}, shards), None, [])
    facts = [found.manifests[name] for name in directories]
    assert [(one.resize, one.encoding, one.excluded) for one in facts] == [
        ("none", "raw", 0),
        ("none", "raw", 0),
        ("pillow-bilinear", "jpg", 2),
    ]


def test_versions_are_those_of_the_packages_themselves():
    import nvidia.dali

    found = versions()
    assert found["dali"] == nvidia.dali.__version__
    assert found["scipy"] == scipy.__version__ and found["pillow"] == PIL.__version__
    setup = (ROOT / "setup.py").read_text()
    assert f'version="{found["oodino"]}"' in setup
