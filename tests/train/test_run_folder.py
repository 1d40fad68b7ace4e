"""The folder of a run: nothing in it is lost, and all ranks agree about it."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from shards.errors import UserError
from tests.support.train_cases import command_line
from train.checkpoint import Snapshot
from train.config import RunConfig
from train.main import main
from train.recipes import RECIPES, parse_run
from train.run_folder import (
    check_ranks,
    start_run,
    to_fields,
    training_command,
    write_command,
)
from train.state import TrainState
from train.world import World

CPU = torch.device("cpu")


@pytest.mark.parametrize("options", [[], ["--model.init", "no/such.safetensors"]])
def test_a_run_whose_checkpoints_are_all_damaged_is_left_as_it_is(
    gray_dir, tmp_path, options
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    command = command_line(gray_dir, run, *options)
    config = parse_run(command, prog="", description="")
    start_run(config)
    state = TrainState.start(config, CPU)
    for step in (10, 20):
        state.step = step
        Snapshot.of(state, {"step": step}, config).write(config)
        path = run / "checkpoints" / f"step-{step:08d}" / "networks.safetensors"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 3.5}\n')

    def contents() -> dict[Path, bytes | None]:
        return {
            path: path.read_bytes() if path.is_file() else None
            for path in run.rglob("*")
            if path.name != "lock"
        }

    before = contents()
    with pytest.raises(UserError, match="none of 2 checkpoints is whole .in step-00000020 net"):
        main(command)
    assert contents() == before


def test_the_configuration_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch) -> None:
    events: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def watched_fsync(handle):
        name = os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))
        size = os.fstat(handle).st_size
        events.append(("fsync", name if name == tmp_path.name else f"{name}, {size} bytes"))
        fsync(handle)

    def watched_rename(src, dst):
        events.append(("rename", os.path.basename(dst)))
        rename(src, dst)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    for left in ("config.partial", ".config.json.partial-1"):
        (tmp_path / left).write_text("of a start that was killed")
    config = dataclasses.replace(RECIPES["demo-cpu"](), in_dist=Path("x"), out=tmp_path)
    start_run(config)
    size = (tmp_path / "config.json").stat().st_size
    assert events == [
        ("fsync", f".config.json.partial-{os.getpid()}, {size} bytes"),
        ("rename", "config.json"),
        ("fsync", tmp_path.name),
    ]
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == config.seed
    assert os.listdir(tmp_path) == ["config.json"]


def test_the_command_of_a_run_is_read_back_word_by_word(tmp_path) -> None:
    words = ["python", "train/main.py", "--out", "a 'new'\nfolder", "--in-dist", "caf\udce9"]
    assert training_command(tmp_path) is None
    write_command(tmp_path, words)
    command = training_command(tmp_path)
    assert command is not None and shlex.split(command) == [*words[:-1], "caf\ufffd"]
    command.encode()  # can be written as UTF-8


@pytest.mark.parametrize("damage", [b"", b"\xff", b"[]", b'{"command": 3}', b'{"command": [1]}'])
def test_a_damaged_command_is_no_error(tmp_path, damage) -> None:
    (tmp_path / "command.json").write_bytes(damage)
    assert training_command(tmp_path) is None


# ---- ranks -------------------------------------------------------------------------------------


class Ranks:
    """Fake collectives of two ranks in one process; rank 0 calls them first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rank, self._sent, self._flags = 0, [], []
        monkeypatch.setattr(dist, "broadcast", self._broadcast)
        monkeypatch.setattr(dist, "all_reduce", self._all_reduce)

    def of(self, rank: int) -> World:
        self.rank = rank
        return World(rank, 2, CPU)

    def _broadcast(self, tensor: torch.Tensor, source: int) -> None:
        assert source == 0
        if self.rank == 0:
            self._sent.append(tensor.clone())
        else:
            sent = self._sent.pop(0)
            assert (sent.shape, sent.dtype) == (tensor.shape, tensor.dtype)
            tensor.copy_(sent)

    def _all_reduce(self, tensor: torch.Tensor, operation: dist.ReduceOp) -> None:
        """Do nothing: the other rank has the same flag."""


def config_with(**changes) -> RunConfig:
    return dataclasses.replace(RECIPES["demo-cpu"](), in_dist=Path("x"), **changes)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 3}, "seed is 3 on rank 1 and 0 on rank 0"),
        ({"micro_batch": 4, "elastic": True}, "micro_batch is 4 on rank 1 and 0 on rank 0"),
        ({"dry_run": True}, "dry_run is True on rank 1 and False on rank 0"),
        ({"views": {"blur_p": (0.5, 0.5, 0.5)}}, r"views.blur_p is \[0.5, 0.5, 0.5\] on rank 1"),
        ({"out": Path("here"), "loader": {"threads": 9}}, ""),
    ],
)
def test_ranks_of_different_options_are_refused(monkeypatch, change, told) -> None:
    ranks = Ranks(monkeypatch)
    main_config = config_with(out=Path("there"))
    check_ranks(main_config, ranks.of(0))
    changed = {
        name: dataclasses.replace(getattr(main_config, name), **value)
        if isinstance(value, dict)
        else value
        for name, value in change.items()
    }
    config = dataclasses.replace(main_config, **changed)
    assert to_fields(config) != to_fields(main_config)
    if told:
        with pytest.raises(UserError, match=f"^{told}.*; start all ranks with the same command$"):
            check_ranks(config, ranks.of(1))
    else:
        check_ranks(config, ranks.of(1))


def test_the_other_ranks_end_too(monkeypatch) -> None:
    monkeypatch.setattr(dist, "broadcast", lambda *_: None)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor, _: tensor.zero_())
    with pytest.raises(UserError, match="^another rank has other fields than rank 0; start all"):
        check_ranks(config_with(out=Path("run")), World(0, 2, CPU))


def test_a_trainer_compares_itself_before_it_builds_anything(
    gray_dir, tmp_path, monkeypatch
) -> None:
    """Networks of different sizes would fail before the folder of the run is checked."""
    ranks = Ranks(monkeypatch)
    command = command_line(gray_dir, tmp_path / "run")
    check_ranks(parse_run(command, prog="", description=""), ranks.of(0))
    monkeypatch.setattr("train.training.start_world", lambda *_: ranks.of(1))
    monkeypatch.setattr("train.training.build_loader", lambda *_: pytest.fail("built"))
    with pytest.raises(UserError, match="^optim.lr_base is 0.25 on rank 1 and .* on rank 0; start"):
        main([*command, "--optim.lr-base", "0.25"])
    assert not (tmp_path / "run").exists()
