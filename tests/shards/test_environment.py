"""Environment variables are checked like options: one line has name, value and expectation."""

from __future__ import annotations

import os

import pytest
import torch

from eval.config import ImagesConfig
from eval.score_images import score_images
from shards.errors import UserError
from shards.terminal import environment
from tests.support.commands import run_command
from tests.support.shard_cases import assert_user_error
from train.launch import Launch, read_launch
from train.world import World, start_world

RANK_1_OF_2 = {
    "WORLD_SIZE": "2",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_WORLD_SIZE": "1",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}


@pytest.fixture
def given(monkeypatch):
    """Return a function that sets the variables of a launcher; those of None are removed."""

    def give(values: dict[str, str | None]) -> None:
        for name in (*RANK_1_OF_2, "TORCHELASTIC_RUN_ID"):
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            if value is not None:
                monkeypatch.setenv(name, value)

    return give


def test_ranks_are_read(given) -> None:
    given(RANK_1_OF_2)
    assert read_launch() == Launch(1, 2, 1, 2, 1, "localhost", 29500)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"WORLD_SIZE": "1"},
        {"WORLD_SIZE": ""},
        {"WORLD_SIZE": "1", "RANK": "0"},
        {"RANK": "0", "LOCAL_RANK": "", "MASTER_PORT": "nonsense"},
    ],
)
def test_one_process_by_itself_needs_none(given, values) -> None:
    given(values)
    assert start_world("cpu", 10) == World(0, 1, torch.device("cpu"))
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', expected a whole number of at least 1"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0', expected a whole number of at least 1"),
        ({"WORLD_SIZE": "-2"}, "WORLD_SIZE is '-2', expected"),
        ({"WORLD_SIZE": " 2"}, "WORLD_SIZE is ' 2', expected"),
        ({"WORLD_SIZE": "9" * 5000}, "WORLD_SIZE is '99"),
        ({"RANK": None}, "RANK is not set, expected a whole number from 0 to 1"),
        ({"RANK": ""}, "RANK is not set, expected a whole number from 0 to 1"),
        ({"RANK": "2"}, "RANK is '2', expected a whole number from 0 to 1"),
        ({"RANK": "٣"}, "RANK is '٣', expected"),
        ({"WORLD_SIZE": None}, "RANK is '1', expected a whole number from 0 to 0 (WORLD_SIZE is 1"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK is 'x', expected a whole number of at least 0"),
        ({"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE is '0', expected"),
        ({"GROUP_WORLD_SIZE": "1.5"}, "GROUP_WORLD_SIZE is '1.5', expected"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not set"),
        ({"MASTER_PORT": None}, "MASTER_PORT is not set, expected a whole number from 1 to 65535"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT is '0', expected a whole number from 1 to 65535"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT is '65536', expected"),
        (
            {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "1", "RANK": None},
            "RANK is not set, expected a whole number from 0 to 0",
        ),
    ],
)
def test_what_is_wrong_is_named(given, changed, told) -> None:
    given({**RANK_1_OF_2, **changed})
    with pytest.raises(UserError) as refused:
        start_world("cpu", 10)
    assert str(refused.value).startswith(told) and "torchrun" in str(refused.value)


def test_ranks_that_cannot_meet_are_a_users_error(given) -> None:
    given({**RANK_1_OF_2, "MASTER_ADDR": "no.such.host.invalid"})
    with pytest.raises(UserError, match=r"^MASTER_ADDR is 'no.such.host.invalid' and MASTER_PORT"):
        start_world("cpu", 1)


def test_own_images_are_for_one_process(given, tmp_path) -> None:
    names = ("run", "in_dist_train", "calibration", "images", "out")
    config = ImagesConfig(**{name: tmp_path / name for name in names})
    given({**RANK_1_OF_2, "WORLD_SIZE": "none"})
    with pytest.raises(UserError, match="^WORLD_SIZE is 'none'"):
        score_images(config, [])
    given(RANK_1_OF_2)
    with pytest.raises(UserError, match="one process"):
        score_images(config, [])


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("OMP_NUM_THREADS", "many", "a whole number of at least 1, or several with commas"),
        ("OMP_NUM_THREADS", "0", "a whole number of at least 1"),
        ("OMP_NUM_THREADS", "4,,2", "a whole number of at least 1"),
        ("COLUMNS", "wide", "a whole number of at least 0"),
        ("TMPDIR", "/no/such/folder", "a folder that can be written"),
        ("TMPDIR", "/dev/null", "a folder that can be written"),
    ],
)
def test_what_libraries_read_is_checked(monkeypatch, name, value, told) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as refused:
        environment.check()
    assert str(refused.value).startswith(f"{name} is {value!r}, expected {told}")


@pytest.mark.parametrize(
    ("name", "value"),
    [("OMP_NUM_THREADS", ""), ("OMP_NUM_THREADS", "4,2"), ("OMP_NUM_THREADS", " 3"),
     ("COLUMNS", "80"), ("TMPDIR", "")],
)  # fmt: skip
def test_what_libraries_understand_is_let_through(monkeypatch, name, value) -> None:
    monkeypatch.setenv(name, value)
    environment.check()
    assert os.environ[name] == value


@pytest.mark.slow
def test_a_terminal_of_no_known_width_has_a_table_all_the_same(gray_dir) -> None:
    shown = run_command("-m", "shards.info", gray_dir, env={"COLUMNS": "0"})
    assert shown.returncode == 0 and "gray" in shown.stdout


@pytest.mark.slow
def test_every_command_checks_them(gray_dir) -> None:
    result = run_command("-m", "shards.info", gray_dir, env={"TMPDIR": "/no/such/folder"})
    assert_user_error(result, "TMPDIR", "/no/such/folder")


def test_cpus_are_counted_where_none_can_be_chosen(monkeypatch) -> None:
    """On macOS the function that counts usable CPUs is missing."""
    monkeypatch.delattr(os, "sched_getaffinity")
    assert environment.usable_cpus() == os.cpu_count()
