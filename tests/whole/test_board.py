"""The board of tasks: its figures against scikit-learn and by hand, and how it goes on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

import benchmarks.board as board
from benchmarks.board_results import as_json, as_lines, best_fixed_rival, mean_of, read_figures
from benchmarks.board_tasks import TASKS
from shards.errors import UserError


def write_results(path: Path, ensemble: float, members: dict[str, tuple[float, float]]) -> Path:
    """results.json with members: key -> AUROC on real and on synthetic outliers."""
    facts = {
        "score": {"all": {"auroc": {"value": ensemble}}},
        "members": {
            key: {
                "auroc": real,
                "proxy_auroc": proxy,
                "weight": 0.1,
                "is_rival": key.startswith("pixels"),
            }
            for key, (real, proxy) in members.items()
        },
    }
    path.write_text(json.dumps({"ensemble": facts}))
    return path


ONE = {
    "teacher/eq6": (0.7, 0.6),
    "teacher/knn-5": (0.8, 0.9),
    "pixels/lof": (0.9, 0.7),
    "pixels/knn-5": (0.6, 0.5),
}


def test_figures_are_those_of_the_results(tmp_path) -> None:
    found = read_figures(write_results(tmp_path / "r.json", 0.95, ONE), seconds=3.0)
    assert (found.ensemble, found.best_member, found.teacher) == (0.95, "pixels/lof", 0.8)
    # Ranks of real: 2, 3, 4, 1; of synthetic: 2, 4, 3, 1; 1 - 6 * 2 / (4 * 15)
    assert found.spearman == pytest.approx(0.8)
    other = {key: (real - 0.1, proxy) for key, (real, proxy) in ONE.items() if "lof" not in key}
    mean = mean_of([found, read_figures(write_results(tmp_path / "o.json", 0.85, other), 4.0)])
    assert mean.ensemble == pytest.approx(0.9) and mean.seconds == 7
    assert mean.members["teacher/knn-5"] == pytest.approx(0.75) and "pixels/lof" not in mean.members


def test_the_fixed_rival_is_the_best_in_the_mean(tmp_path) -> None:
    swapped = {**ONE, "pixels/lof": (0.5, 0.5), "pixels/knn-5": (0.99, 0.5)}
    tasks = {
        name: read_figures(write_results(tmp_path / f"{name}.json", value, members), 1.0)
        for name, value, members in (("a", 0.88, ONE), ("b", 0.97, swapped))
    }
    assert best_fixed_rival(tasks) == "pixels/knn-5"
    rows = as_json(tasks)["tasks"]
    assert rows["a"]["best_rival"] == 0.6 and rows["a"]["best_member_name"] == "pixels/lof"
    assert rows["b"]["eq6"] == 0.7
    *_, gain, below = as_lines(tasks)
    assert "+13.00 above" in gain  # the means of 88, 97 and of 60, 99
    assert "on 0 of 2 tasks, and 2.00 below it at worst" in below


def test_what_was_run_is_not_run_again(tmp_path, monkeypatch) -> None:
    calls: list[list[str]] = []

    def run(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(words[1:])
        failed = "eval/score.py" in words and len(calls) < 4
        return subprocess.CompletedProcess(words, int(failed), "", "first\nno images\n")

    monkeypatch.setattr(board.subprocess, "run", run)
    options = board.BoardOptions(tasks=("footwear",), out=tmp_path / "out")
    (trial,) = TASKS["footwear"]
    with pytest.raises(UserError, match=r"eval/score.py failed: no images"):
        board.Board(options).results(trial)
    assert [words[0] for words in calls] == ["-m", "train/main.py", "eval/score.py"]
    board.Board(options).results(trial)
    assert [words[0] for words in calls[3:]] == ["eval/score.py"]
    board.Board(options).results(trial)
    assert len(calls) == 4


def test_tasks_have_runs_of_their_own() -> None:
    assert len(TASKS) == 22 and sum(len(trials) for trials in TASKS.values()) == 14 + 24
    names = [trial.name for trials in TASKS.values() for trial in trials]
    assert len(set(names)) == len(names)
    assert TASKS["texture-far"][0].run == TASKS["texture-defect"][0].run


def test_missing_data_and_wrong_names_are_told(tmp_path, capsys) -> None:
    with pytest.raises(UserError, match="--tasks is emojy, which is no task; did you mean emoji"):
        board.main(["--tasks", "emojy"])
    folders = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="1 of 1 tasks failed: emoji: --data: .*normal-tr"):
        board.main(["--tasks", "emoji", *folders])


@pytest.mark.slow
def test_the_pretrained_tensors_get_timms_names(tmp_path) -> None:
    own = timm.create_model(board.PRETRAINED).state_dict()
    given = {f"other.{number}": value for number, value in enumerate(own.values())}
    torch.save(given, tmp_path / "given.pth")
    named = board.renamed(tmp_path / "given.pth", tmp_path / "out.safetensors")
    assert named == f"timm:{board.PRETRAINED}@{tmp_path / 'out.safetensors'}"
    found = load_file(tmp_path / "out.safetensors")
    assert found.keys() == own.keys()
    assert all(torch.equal(found[key], own[key]) for key in own)
    torch.save(dict(list(given.items())[1:]), tmp_path / "short.pth")
    with pytest.raises(UserError, match="its tensors are not those of tf_efficientnet_lite0"):
        board.renamed(tmp_path / "short.pth", tmp_path / "short.safetensors")
