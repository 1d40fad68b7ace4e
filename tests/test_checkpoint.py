"""Checkpoints: whole or passed over, and exact."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from shards.cli import UserError
from train.checkpoint import latest_checkpoint, load_teacher, save_checkpoint
from train.config import RunConfig
from train.recipes import RECIPES
from train.run_folder import first_difference, from_fields, to_fields
from train.state import TrainState

CPU = torch.device("cpu")
LOADER = {"step": 3, "seed": 0, "manifests": {"in-dist": "d1"}}


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
    state.centre.normal_()
    state.step = steps
    return state


def everything(state: TrainState) -> dict[str, torch.Tensor]:
    return {**state.network_tensors(), **state.optimizer_tensors()}


def test_a_state_comes_back_bit_for_bit(tmp_path) -> None:
    config = small_config(tmp_path)
    saved = moved_state(config, 96)
    save_checkpoint(tmp_path, saved, LOADER, config)
    loaded = TrainState.start(config, CPU)
    assert latest_checkpoint(tmp_path).restore(loaded) == LOADER
    assert loaded.step == 96
    assert json.dumps(loaded.values()) == json.dumps(saved.values())
    theirs = everything(loaded)
    assert everything(saved).keys() == theirs.keys()
    for name, value in everything(saved).items():
        assert torch.equal(value, theirs[name]), name


def test_the_newest_are_kept(tmp_path) -> None:
    config = small_config(tmp_path, keep_checkpoints=2)
    for step in (1, 2, 3, 20):
        save_checkpoint(tmp_path, moved_state(config, step), LOADER, config)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000003", "step-00000020"]


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    config = small_config(run)
    for step in (1, 2):
        save_checkpoint(run, moved_state(config, step), LOADER, config)
    return run


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
            # A flip may hit a blank; one in a digest is what matters.
            path.write_text(whole.decode().replace('"sha256": "', '"sha256": "f', 1))
        assert latest_checkpoint(two_checkpoints).step == 1
        assert "step-00000002 is passed over" in capsys.readouterr().out
    finally:
        path.write_bytes(whole)
    assert latest_checkpoint(two_checkpoints).step == 2


def test_an_unfinished_save_is_not_a_checkpoint(tmp_path, monkeypatch) -> None:
    config = small_config(tmp_path)
    save_checkpoint(tmp_path, moved_state(config, 1), LOADER, config)

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(Path, "rename", fail)
        save_checkpoint(tmp_path, moved_state(config, 2), LOADER, config)
    assert latest_checkpoint(tmp_path).step == 1
    save_checkpoint(tmp_path, moved_state(config, 2), LOADER, config)
    assert latest_checkpoint(tmp_path).step == 2


def test_the_teacher_is_loaded_for_evaluation(tmp_path) -> None:
    config = small_config(tmp_path)
    state = moved_state(config, 5)
    save_checkpoint(tmp_path, state, LOADER, config)
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
