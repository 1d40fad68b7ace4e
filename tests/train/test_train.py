"""The trainer as a user runs it: its files, how it resumes, two ranks, and refused commands."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shards.terminal import cli
from tests.support.commands import run_command
from tests.support.paths import ROOT
from tests.support.train_cases import command_line, tensors_of, train
from train.main import main
from train.run_folder import training_command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(gray_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a run of two epochs: 20 steps."""
    out = tmp_path_factory.mktemp("train") / "run"
    result = train(gray_dir, out)
    assert result.returncode == 0, result.stderr
    assert "step 20/20" in result.stdout and "data wait" in result.stdout
    return out


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_writes_its_configuration_metrics_events_and_checkpoints(finished) -> None:
    assert json.loads((finished / "config.json").read_text())["negatives"] == "rot-in"
    lines = metrics(finished)
    assert [line["step"] for line in lines] == list(range(1, 21))
    for line in lines:
        expected = line["positive"] + 0.3 * (line["negative_kl"] + math.log(32))
        assert line["loss"] == pytest.approx(expected, rel=1e-4)
        assert line["negative_kl"] >= -1e-5 and line["images_per_s"] > 0
        assert 0 <= line["data_wait_pct"] <= 100 and line["eta_s"] >= 0
        assert line["skipped"] == 0 and 0 < line["occupied"] <= 32 and 0 <= line["spread"] <= 1
        assert 0 <= line["teacher_entropy"] <= math.log(32) + 1e-5
        assert line["kl"] == pytest.approx(line["positive"] - line["teacher_entropy"], abs=1e-4)
        assert line["epoch"] == line["step"] / 10
    assert list((finished / "tensorboard").glob("events.*"))
    checkpoints = sorted(path.name for path in (finished / "checkpoints").iterdir())
    assert checkpoints == ["step-00000010", "step-00000020"]
    names = {path.name for path in finished.iterdir()}
    assert names == {
        *("config.json", "metrics.jsonl", "tensorboard", "checkpoints", "lock"),
        *("README.md", "curves.png", "command.json"),
    }


def test_the_notes_of_a_run_say_how_it_ended_and_how_to_score_with_it(finished, gray_dir) -> None:
    notes = (finished / "README.md").read_text()
    last = metrics(finished)[-1]
    assert notes.startswith("# A run of oodino, finished\n")
    for row in (
        f"| images | `{gray_dir}` |",
        "| negatives | rot-in, lambda 0.3 |",
        "| network | ViT, 2 blocks of width 24, patches of 7 px; 32 prototypes |",
        "| steps | 20 of 20, 12 images each |",
        "| ranks | 1 (cpu, bf16) |",
        f"| loss | {last['loss']:.4g} |",
        f"| occupied | {last['occupied']:.4g} |",
    ):
        assert row in notes.splitlines(), row
    score, made_by = [line.strip() for line in notes.splitlines() if line.startswith("    ")]
    assert score.startswith(f"python eval/score.py {finished} --in-dist-train {gray_dir} ")
    assert training_command(finished) == made_by
    command = shlex.split(made_by)
    assert command[0] == "python" and command[1].endswith("train/main.py")
    assert command[2:] == command_line(gray_dir, finished)


def test_the_negatives_are_pushed_to_the_uniform_response(finished) -> None:
    values = [line["negative_kl"] for line in metrics(finished)]
    assert values[-1] < 0.7 * values[0]


def test_the_prototypes_rest_while_they_are_frozen(gray_dir, tmp_path) -> None:
    result = train(gray_dir, tmp_path / "run", "--optim.freeze-last-layer-epochs", "1")
    assert result.returncode == 0, result.stderr
    key = "networks:student.head.prototypes.parametrizations.weight.original1"
    first, second = (tensors_of(tmp_path / "run", step)[key] for step in (10, 20))
    fresh = train_start_prototypes(tmp_path / "run")
    assert torch.equal(first, fresh) and not torch.equal(second, fresh)


def train_start_prototypes(run: Path) -> torch.Tensor:
    from train.run_folder import from_fields
    from train.state import TrainState

    config = from_fields(json.loads((run / "config.json").read_text()))
    state = TrainState.start(config, torch.device("cpu"))
    return state.student.head.prototypes.parametrizations.weight.original1


def test_a_run_cut_short_goes_on_bit_for_bit(gray_dir, finished, tmp_path) -> None:
    """The last checkpoint and the metrics after it are lost, as if the run was killed."""
    cut = tmp_path / "run"
    shutil.copytree(finished, cut)
    shutil.rmtree(cut / "checkpoints" / "step-00000020")
    (cut / "metrics.jsonl").write_text((cut / "metrics.jsonl").read_text()[:-40])
    result = train(gray_dir, cut)
    assert result.returncode == 0, result.stderr
    assert "at step 10 of 20" in result.stdout
    whole, resumed = tensors_of(finished, 20), tensors_of(cut, 20)
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    assert [line["loss"] for line in metrics(cut)] == [line["loss"] for line in metrics(finished)]


def test_a_finished_run_is_left_as_it_is(gray_dir, finished) -> None:
    def contents() -> dict[str, bytes]:
        files = [path for path in finished.rglob("*") if path.is_file()]
        return {
            str(path): path.read_bytes()
            for path in files
            if path.name != "lock" and not path.name.startswith("events.")
        }

    before = contents()
    result = train(gray_dir, finished)
    assert result.returncode == 0 and "done" in result.stdout
    assert contents() == before


def test_two_ranks_end_equal_having_seen_every_id_once_an_epoch(gray_dir, tmp_path) -> None:
    script = ROOT / "tests" / "support" / "ddp_rank.py"
    result = run_command(script, gray_dir, tmp_path / "run", ranks=2)
    assert result.returncode == 0, result.stderr
    ranks = [load_file(tmp_path / f"rank-{rank}.safetensors") for rank in range(2)]
    ids = [rank.pop("seen_ids") for rank in ranks]
    draws = [rank.pop("seen_draws") for rank in ranks]
    for name, value in ranks[0].items():
        assert torch.equal(value, ranks[1][name]), name
    for epoch in range(2):
        part = slice(10 * epoch, 10 * epoch + 10)
        seen = torch.cat([rank_ids[part].flatten() for rank_ids in ids])
        assert sorted(seen.tolist()) == list(range(120))
    assert not (draws[0] == draws[1]).any(-1).any()


def test_ranks_that_see_different_runs_stop(gray_dir, finished, tmp_path) -> None:
    """Two machines do not share the folder OUT, and one has no checkpoints."""
    runs = [tmp_path / "rank-0", tmp_path / "rank-1"]
    for run in runs:
        shutil.copytree(finished, run)
    shutil.rmtree(runs[1] / "checkpoints")
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from shards.terminal import cli; from train.main import main\n"
        "out = sys.argv[2] + '/rank-' + os.environ['RANK']\n"
        "cli.run(lambda: main([*sys.argv[3:], '--out', out]))"
    )
    script = tmp_path / "rank.py"
    script.write_text(code)
    arguments = command_line(gray_dir, Path("unused"))
    result = run_command(script, ROOT, tmp_path, *arguments, ranks=2)
    assert result.returncode != 0
    assert "--out: rank 1 does not see what rank 0 sees" in result.stderr


def test_two_ranks_compute_what_one_does(gray_dir, finished, tmp_path) -> None:
    """Results are equal up to the order of sums; views and skipped branches are the same."""
    runs = []
    for ranks in (0, 2):
        out = tmp_path / f"ranks-{ranks}"
        options = ("--precision", "fp32", "--epochs", "5")
        result = train(gray_dir, out, *options, ranks=ranks)
        assert result.returncode == 0, result.stderr
        runs.append(out)
    one, two = map(metrics, runs)
    assert one[-1]["step"] == 50
    for a, b in zip(one, two, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5), a["step"]
    centre = [tensors_of(run, 50)["networks:centre"] for run in runs]
    assert (centre[0] - centre[1]).abs().max() < 1e-5


REFUSED = [
    (["--optim.lr-bse", "1"], "error: unknown option --optim.lr-bse"),
    (["--negatives", "rotate"], "rotate"),
    (["--views.local-px", "15"], "views.local_px is 15"),
    (["--global-batch", "121"], "121"),
    (["--negatives", "aux"], "--aux"),
    (["--model.heads", "5"], "model.heads"),
    (["--loss.student-temp", "0"], "loss.student_temp is 0"),
    (["--model.heads", "0"], "model.heads is 0"),
    (["--head.hidden", "0"], "head.hidden is 0"),
    (["--views.hue-deg", "-5"], "views.hue_deg is -5"),
    (["--optim.warmup-epochs", "2"], "optim.warmup_epochs is 2"),
    (["--seed", "-1"], "seed is -1"),
    (["--optim.ema-momentum-start", "1.5"], "optim.ema_momentum_start is 1.5"),
    (["--in-dist", "no/such/folder"], "no/such/folder"),
]
if not torch.cuda.is_available():
    REFUSED.append((["--device", "cuda"], "no CUDA device"))


@pytest.mark.parametrize(("options", "named"), REFUSED, ids=[named for _, named in REFUSED])
def test_mistakes_are_named_and_leave_nothing(gray_dir, tmp_path, capsys, options, named) -> None:
    command = command_line(gray_dir, tmp_path / "run", *options)
    with pytest.raises(SystemExit) as stopped:
        cli.run(lambda: main(command))
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_each_rank_tells_a_mistake_in_one_line(gray_dir, tmp_path) -> None:
    for ranks in (0, 2):
        options = ("--views.local-px", "15")
        result = train(gray_dir, tmp_path / "run", *options, ranks=ranks)
        assert result.returncode != 0
        told = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert 1 <= len(told) <= max(1, ranks) and "views.local_px is 15" in told[0]
        assert 'train/main.py", line' not in result.stderr  # torchrun adds its own summary


def test_a_run_that_diverges_stops_and_keeps_its_last_good_checkpoint(gray_dir, tmp_path) -> None:
    """One line says it, whether steps are skipped or weights are not saved."""
    out = tmp_path / "run"
    options = ("--optim.lr-base", "1e30", "--log-steps", "40", "--checkpoint-steps", "1")
    result = train(gray_dir, out, *options)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "not finite" in result.stderr or "were skipped" in result.stderr
    kept = sorted(out.glob("checkpoints/step-*"))
    assert kept
    for folder in kept:
        tensors = tensors_of(out, int(folder.name[5:]))
        assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_a_run_does_not_go_on_with_other_images(gray_dir, rgb_dir, finished, tmp_path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    result = train(rgb_dir, tmp_path / "run")
    assert result.returncode == 2 and "other manifests than those of" in result.stderr
    assert str(rgb_dir) in result.stderr and "Traceback" not in result.stderr


def test_a_damaged_line_of_metrics_does_not_stop_a_resume(gray_dir, finished, tmp_path) -> None:
    cut = tmp_path / "run"
    shutil.copytree(finished, cut)
    shutil.rmtree(cut / "checkpoints" / "step-00000020")
    lines = (cut / "metrics.jsonl").read_text().splitlines(keepends=True)
    (cut / "metrics.jsonl").write_text("".join([*lines[:3], "garbage\n", *lines[4:]]))
    assert train(gray_dir, cut).returncode == 0
    assert [line["step"] for line in metrics(cut)] == [1, 2, 3, *range(5, 21)]


def test_a_folder_that_is_not_this_run_is_left_alone(gray_dir, finished, tmp_path) -> None:
    result = train(gray_dir, finished, "--seed", "5")
    assert result.returncode == 2 and "seed is 5 now and 0 there" in result.stderr
    (tmp_path / "notes.txt").write_text("mine")
    result = train(gray_dir, tmp_path)
    assert result.returncode == 2 and "is not a run" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_of_another_version_is_told_by_its_field(gray_dir, finished, tmp_path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    path = copy / "config.json"
    fields = json.loads(path.read_text())
    fields["loader_threads"] = fields.pop("loader")["threads"]
    path.write_text(json.dumps(fields))
    result = train(gray_dir, copy)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "loader_threads is no field of a run: another version" in result.stderr


def test_another_number_of_ranks_has_to_be_asked_for(gray_dir, finished, tmp_path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    (newest,) = sorted(copy.glob("checkpoints/step-*"))[-1:]
    shutil.rmtree(newest)
    refused = train(gray_dir, copy, ranks=2)
    assert refused.returncode != 0
    assert "world_size is 1, here it is 2; allow it with --elastic" in refused.stderr
    went_on = train(gray_dir, copy, "--elastic", ranks=2)
    assert went_on.returncode == 0, went_on.stderr
