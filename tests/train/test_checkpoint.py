"""Checkpoints: they are exact, and damaged ones are skipped."""

from __future__ import annotations

import dataclasses
import errno
import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from shards.errors import UserError
from train.checkpoint import CheckpointWriter, Snapshot, latest_checkpoint
from train.config import RunConfig
from train.recipes import RECIPES
from train.run_folder import first_difference, from_fields, to_fields
from train.state import TrainState
from train.teacher import load_teacher

CPU = torch.device("cpu")


def loader_at(step: int) -> dict:
    return {"step": step, "seed": 0, "manifests": {"in-dist": "d1"}}


def small_config(out: Path, **changes) -> RunConfig:
    return dataclasses.replace(RECIPES["demo-cpu"](), in_dist=Path("x"), out=out, **changes)


def moved_state(config: RunConfig, steps: int) -> TrainState:
    """A state whose every part has changed, as after `steps` steps."""
    state = TrainState.start(config, CPU)
    torch.manual_seed(steps)
    for _ in range(2):
        for parameter in state.student.parameters():
            parameter.grad = torch.randn_like(parameter)
        state.optimizer.param_groups[0]["lr"] = 0.01
        state.optimizer.step()
    for parameter in state.teacher.parameters():
        parameter.data.add_(torch.randn_like(parameter))
    for running in state.running_tensors().values():
        running.normal_()
    state.step = steps
    return state


def save(state: TrainState, config: RunConfig) -> None:
    Snapshot.of(state, loader_at(state.step), config).write(config)


def everything(state: TrainState) -> dict[str, torch.Tensor]:
    return {**state.network_tensors(), **state.optimizer_tensors()}


def test_a_state_comes_back_bit_for_bit(tmp_path) -> None:
    config = small_config(tmp_path)
    saved = moved_state(config, 96)
    save(saved, config)
    loaded = TrainState.start(config, CPU)
    assert latest_checkpoint(tmp_path).restore(config, loaded) == loader_at(96)
    assert loaded.step == 96
    assert json.dumps(loaded.values()) == json.dumps(saved.values())
    theirs = everything(loaded)
    assert everything(saved).keys() == theirs.keys()
    for name, value in everything(saved).items():
        assert torch.equal(value, theirs[name]), name


@pytest.mark.slow
def test_the_newest_are_kept(tmp_path) -> None:
    config = small_config(tmp_path, keep_checkpoints=2)
    for step in (1, 2, 3, 20):
        save(moved_state(config, step), config)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000003", "step-00000020"]


@pytest.mark.slow
def test_a_damaged_later_one_does_not_cost_the_newest_whole_one(tmp_path) -> None:
    config = small_config(tmp_path, keep_checkpoints=1)
    for step in (20, 30):
        save(moved_state(config, step), dataclasses.replace(config, keep_checkpoints=2))
    (tmp_path / "checkpoints" / "step-00000030" / "state.json").write_text("{}")
    save(moved_state(config, 25), config)
    assert latest_checkpoint(tmp_path).step == 25
    assert not (tmp_path / "checkpoints" / "step-00000020").exists()


def test_a_save_is_of_the_moment_it_is_asked_for(tmp_path) -> None:
    config = small_config(tmp_path)
    state = moved_state(config, 7)
    before = {name: value.clone() for name, value in everything(state).items()}
    writer = CheckpointWriter(config)
    writer.save(state, loader_at(7))
    with torch.no_grad():
        for value in everything(state).values():
            value.add_(1)
    state.step = 8
    writer.close()
    loaded = TrainState.start(config, CPU)
    checkpoint = latest_checkpoint(tmp_path)
    checkpoint.restore(config, loaded)
    assert checkpoint.step == loaded.step == 7
    for name, value in everything(loaded).items():
        assert torch.equal(value, before[name]), name


def test_a_save_that_fails_in_the_background_is_told(tmp_path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    config = small_config(tmp_path)
    writer = CheckpointWriter(config)
    writer.save(moved_state(config, 1), loader_at(1))
    with pytest.raises(OSError, match="checkpoints"):
        writer.save(moved_state(config, 2), loader_at(2))
    with pytest.raises(OSError, match="checkpoints"):
        writer.close()


@pytest.mark.parametrize("where", ["student", "teacher", "centre", "optimizer"])
def test_what_is_not_finite_is_not_saved(tmp_path, where) -> None:
    config = small_config(tmp_path)
    save(moved_state(config, 1), config)
    state = moved_state(config, 2)
    tensors = everything(state)
    name = next(
        name
        for name in tensors
        if (name[0].isdigit() if where == "optimizer" else name.startswith(where))
        and tensors[name].ndim
    )
    tensors[name].view(-1)[-1] = float("inf")
    with pytest.raises(UserError, match=f"{name} is not finite at step 2"):
        save(state, config)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    config = small_config(run)
    for step in (1, 2):
        save(moved_state(config, step), config)
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["networks.safetensors", "optimizer.safetensors", "state.json", "COMPLETE.json"]
)
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_checkpoint_is_passed_over_aloud(two_checkpoints, name, damage, capsys) -> None:
    path = two_checkpoints / "checkpoints" / "step-00000002" / name
    whole = path.read_bytes()
    broken = bytearray(whole)
    broken[np.random.default_rng(0).integers(len(whole))] ^= 1
    try:
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(broken if damage == "flip" else whole[: len(whole) // 2])
        if name == "COMPLETE.json" and damage == "flip":
            # A flip in white space could change nothing, so flip a bit of a digest.
            path.write_text(whole.decode().replace('"sha256": "', '"sha256": "f', 1))
        assert latest_checkpoint(two_checkpoints).step == 1
        assert "step-00000002 is skipped" in capsys.readouterr().out
    finally:
        path.write_bytes(whole)
    assert latest_checkpoint(two_checkpoints).step == 2


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
def test_a_damaged_one_is_kept_beside_when_its_step_is_saved_again(tmp_path) -> None:
    config = small_config(tmp_path)
    folder = tmp_path / "checkpoints" / "step-00000002"
    for text in ("once", "twice"):
        save(moved_state(config, 2), config)
        (folder / "state.json").write_text(text)
        damaged = files(folder)
    for step in (2, 3):
        save(moved_state(config, step), dataclasses.replace(config, keep_checkpoints=1))
    assert latest_checkpoint(tmp_path).step == 3
    names = sorted(path.name for path in folder.parent.iterdir())
    assert names == ["step-00000002.refused", "step-00000003"]
    assert files(folder.with_name("step-00000002.refused")) == damaged  # the newer one


def test_if_all_are_damaged_that_is_no_new_run(tmp_path) -> None:
    config = small_config(tmp_path)
    for step in (1, 2):
        save(moved_state(config, step), config)
        (tmp_path / "checkpoints" / f"step-{step:08d}" / "networks.safetensors").write_bytes(b"")
    before = files(tmp_path)
    told = (
        f"{tmp_path}/checkpoints: none of 2 checkpoints is whole (in step-00000002 "
        "networks.safetensors is not as it was written); move them away to start again"
    )
    for look in (latest_checkpoint, lambda run: load_teacher(run, CPU)):
        with pytest.raises(UserError) as refused:
            look(tmp_path)
        assert str(refused.value) == told
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["COMPLETE.json", "networks.safetensors"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_what_cannot_be_read_now_is_not_damaged(two_checkpoints, monkeypatch, name, number) -> None:
    read_bytes = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.parts[-2:] == ("step-00000002", name):
            raise OSError(number, "not now", str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(OSError, match="not now.*step-00000002"):
        latest_checkpoint(two_checkpoints)


@pytest.mark.slow
def test_views_of_another_step_than_the_networks_are_refused(tmp_path) -> None:
    config = small_config(tmp_path)
    Snapshot.of(moved_state(config, 4), loader_at(5), config).write(config)
    with pytest.raises(UserError, match="networks of step 4 and views of step 5, expected 4"):
        latest_checkpoint(tmp_path).restore(config, TrainState.start(config, CPU))
    save(moved_state(config, 6), config)
    folder = tmp_path / "checkpoints" / "step-00000006"
    folder.rename(folder.with_name("step-00000007"))
    with pytest.raises(UserError, match="expected 7 as in its name"):
        latest_checkpoint(tmp_path).restore(config, TrainState.start(config, CPU))


MISFITS = {
    "shape": ("student.backbone.norm.bias", "backbone.norm.bias is [3], expected ["),
    "missing": ("teacher.backbone.norm.bias", "backbone.norm.bias is not there, expected ["),
    "no average": ("usage", "usage is not there, expected [256]"),
    "more": ("student.other", "student.other is [3], expected none"),
    "optimizer": ("", "the optimizer is another one: loaded state dict has a different number"),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_what_does_not_fit_the_networks_is_named_with_its_folder(tmp_path, kind) -> None:
    config = small_config(tmp_path)
    snapshot = Snapshot.of(moved_state(config, 4), loader_at(4), config)
    name, told = MISFITS[kind]
    if kind in ("shape", "more"):
        snapshot.networks[name] = torch.zeros(3)
    elif kind == "optimizer":
        snapshot.described["train"]["groups"].pop()
    else:
        del snapshot.networks[name]
    snapshot.write(config)
    with pytest.raises(UserError, match=f"^{tmp_path}/checkpoints/step-00000004: ") as refused:
        latest_checkpoint(tmp_path).restore(config, TrainState.start(config, CPU))
    assert told in str(refused.value) and "\n" not in str(refused.value)


def test_a_checkpoint_of_another_run_is_refused(tmp_path) -> None:
    """The networks fit. Fields that --elastic allows may have changed and changed back."""
    config = small_config(tmp_path)
    other = dataclasses.replace(config, micro_batch=4, log_steps=7)
    for step, theirs in ((4, other), (6, dataclasses.replace(other, seed=9))):
        Snapshot.of(moved_state(config, step), loader_at(step), theirs).write(config)
    with pytest.raises(UserError, match="step-00000006 is of another run: seed is 0 now and 9 th"):
        latest_checkpoint(tmp_path).restore(config, TrainState.start(config, CPU))
    (tmp_path / "checkpoints" / "step-00000006").rename(tmp_path / "away")
    assert latest_checkpoint(tmp_path).restore(config, TrainState.start(config, CPU))["step"] == 4


def test_other_versions_of_what_wrote_it_are_told(tmp_path) -> None:
    config = small_config(tmp_path)
    snapshot = Snapshot.of(moved_state(config, 4), loader_at(4), config)
    written = snapshot.described["versions"]
    assert written.keys() == {"torch", "timm"}
    for name, version in written.items():  # package metadata lacks the version of CUDA
        assert version.split("+")[0] == importlib.metadata.version(name).split("+")[0]
    here = written["torch"]
    snapshot.write(config)
    assert latest_checkpoint(tmp_path).other_versions() == ""
    written["torch"] = "1.0"
    snapshot.write(config)
    assert latest_checkpoint(tmp_path).other_versions() == f"torch 1.0 (here {here})"


@pytest.mark.slow
def test_an_unfinished_save_is_not_a_checkpoint(tmp_path, monkeypatch) -> None:
    config = small_config(tmp_path)
    save(moved_state(config, 1), config)

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(Path, "rename", fail)
        save(moved_state(config, 2), config)
    assert latest_checkpoint(tmp_path).step == 1
    save(moved_state(config, 3), config)
    assert latest_checkpoint(tmp_path).step == 3
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000001", "step-00000003"]


def test_the_teacher_is_loaded_for_evaluation(tmp_path) -> None:
    config = small_config(tmp_path)
    state = moved_state(config, 5)
    save(state, config)
    loaded = load_teacher(tmp_path, CPU)
    x = torch.randn(2, 3, 28, 28)
    assert loaded.manifests == {"in-dist": "d1"}
    assert loaded.step == 5 and not loaded.backbone.training and loaded.config == config
    assert torch.equal(loaded.backbone(x), state.teacher.backbone.eval()(x))


def test_a_run_without_a_checkpoint_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match="no such run"):
        load_teacher(tmp_path / "missing", CPU)
    with pytest.raises(UserError, match="no complete checkpoint"):
        load_teacher(tmp_path, CPU)


def test_a_configuration_survives_json(tmp_path) -> None:
    config = small_config(tmp_path, aux=Path("a"), negatives="combined")
    again = from_fields(json.loads(json.dumps(to_fields(config))))
    assert again == config and isinstance(again.views.blur_p, tuple)


def test_differences_are_named_with_both_values(tmp_path) -> None:
    config = small_config(tmp_path)
    assert first_difference(config, small_config(Path("elsewhere"), log_steps=3)) is None
    other = small_config(tmp_path, loss=dataclasses.replace(config.loss, student_temp=0.2))
    difference = first_difference(config, other)
    assert "loss.student_temp" in difference and "0.1" in difference and "0.2" in difference
