"""The scoring command on real shard sets: what it refuses, or scores only if it is allowed."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from eval import score_sets
from eval.score import main
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.errors import UserError
from shards.reader import ShardSet
from tests.support.commands import run_anew
from tests.support.small_sets import (
    CPU,
    npy_request,
    npy_set,
    results_of,
    score_command,
    write_run,
)
from tests.support.world_cases import OneOfTwo


class ComparedEqual(Exception):
    """All is as the earlier rank had it."""


@pytest.mark.parametrize("differs", [None, "checkpoint", "images", "features"])
def test_ranks_that_do_not_score_the_same_are_refused(sets, tmp_path, monkeypatch, differs):
    def work(*_):
        raise ComparedEqual

    def arrange(changed: str | None) -> None:
        def change(teacher):
            teacher.backbone.norm.bias.fill_(float(changed == "checkpoint"))

        for name in ("run", "ood"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
        write_run(tmp_path / "run", sets / "train", change)
        npy_set(tmp_path / "ood", 5, seed=7 if changed == "images" else 6)
        counts = {"in-dist-train": 30, "in-dist-test": 12, "ood": 5}
        of_sets = {name: np.ones((count, 2)) for name, count in counts.items()}
        of_sets["ood"][4, 1] += changed == "features"
        np.savez(tmp_path / "a.npz", **of_sets)

    world = OneOfTwo(0, 2, CPU)
    monkeypatch.setattr(score_sets, "start_world", lambda *_: world)
    monkeypatch.setattr(score_sets, "all_features", work)
    ood, features = str(tmp_path / "ood"), str(tmp_path / "a.npz")
    arguments = score_command(
        tmp_path / "run", sets, tmp_path / "out", "--features", features, ood=[ood]
    )
    arrange(None)
    with pytest.raises(ComparedEqual):
        main(arguments)
    arrange(differs)
    named = {
        "checkpoint": f"the newest checkpoint of {tmp_path / 'run'}",
        "images": f"ood: {ood}",
        "features": f"--features {features}",
    }
    expected = UserError if differs else ComparedEqual
    with pytest.raises(expected, match=f"^{named[differs]} differs" if differs else None):
        main(arguments)


@pytest.mark.slow
def test_shared_images_are_refused_or_recorded(run, sets, tmp_path):
    with ShardSet.open(sets / "train") as train:
        images = train.read(np.array([0, 1, 2, 3, 4]))
    images[:3] = 255 - images[:3]
    np.save(tmp_path / "leaky.npy", images)
    build(BuildRequest(**npy_request(tmp_path / "leaky.npy", tmp_path / "leaky")))
    arguments = score_command(run, sets, tmp_path / "out", ood=("ood-a", tmp_path / "leaky"))
    with pytest.raises(UserError, match="2 of leaky are in in-dist-train too"):
        main(arguments)
    assert not (tmp_path / "out").exists()
    main([*arguments, "--allow-overlap"])
    assert results_of(tmp_path / "out")["overlap"] == {"in-dist-train and leaky": 2}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--batch", "0"), "--batch is 0"),
        (("--num-threads", "-1"), "--num-threads is -1"),
        (("--tau", "0"), "--tau is 0"),
        (("--tau", "nan"), "--tau is nan"),
        (("--k", "0"), "--k is 0"),
        (("--fpr", "1"), "--fpr is 1"),
        (("--backbone", "resnet18"), "--backbone is resnet18, expected timm:NAME"),
        (("--backbone-px", "64"), "--backbone-px is the size of images for --backbone"),
        (("--backbone", "timm:x", "--backbone-px", "0"), "--backbone-px is 0, expected >= 1"),
        (("--images", "folder"), "--ood: expected at least one folder, or --images instead"),
        (("--near", "ood-c"), "--near is ood-c, which is none of the OOD sets: ood-a, ood-b"),
    ],
)
def test_options_out_of_range_are_named(run, sets, tmp_path, more, message):
    with pytest.raises(UserError, match=f"^{message}"):
        main(score_command(run, sets, tmp_path / "out", *more))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_help_and_mistakes_do_not_wait_for_torch(tmp_path):
    slow = ("torch", "timm", "torchvision", "sklearn", "scipy", "matplotlib", "nvidia")
    code = (
        "import sys\n"
        "class NothingSlow:\n"
        "    def find_spec(self, name, *_):\n"
        f"        assert name.partition('.')[0] not in {slow!r}, name\n"
        "sys.meta_path.insert(0, NothingSlow())\n"
        "from eval import score\n"
        "from shards.terminal import cli\n"
        "cli.run(score.main)"
    )
    found = run_anew("-c", code, "--help")
    assert found.returncode == 0 and "--in-dist-train" in found.stdout, found.stderr
    found = run_anew("-c", code, "run", "--out", str(tmp_path / "out"))
    assert found.returncode == 2 and found.stderr.startswith("error: --in-dist-train: expected")


def test_at_least_one_ood_set(run, sets, tmp_path):
    with pytest.raises(UserError, match="^--ood: expected at least one folder, or --images"):
        main(score_command(run, sets, tmp_path / "out", ood=()))
    assert not (tmp_path / "out").exists()


def test_cuda_where_there_is_none(run, sets, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="^--device is cuda"):
        main([*score_command(run, sets, tmp_path / "out")[:-1], "cuda"])


def test_a_run_without_checkpoint(sets, tmp_path):
    with pytest.raises(UserError, match="no complete checkpoint"):
        main(score_command(tmp_path, sets, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_output_folder_of_someone_else_is_refused_before_any_work(sets, tmp_path):
    with pytest.raises(UserError, match="^--out"):
        main(score_command(tmp_path / "no-such-run", sets, sets))


@pytest.mark.slow
def test_the_set_that_the_run_was_trained_on_is_recorded_if_allowed(run, sets, tmp_path):
    shutil.copytree(sets / "train", tmp_path / "copy")
    arguments = score_command(run, sets, tmp_path / "out", ood=("ood-a", tmp_path / "copy"))
    with pytest.raises(UserError, match="^in-dist-train and copy hold the same shards: "):
        main(arguments)
    main([*arguments, "--allow-overlap"])
    assert results_of(tmp_path / "out")["overlap"] == {
        "the set that the run was trained on and copy": 30,
        "in-dist-train and copy": 30,
    }
