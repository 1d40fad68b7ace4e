"""`make` refuses what it would pass over, and lists what it can do."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support.paths import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Of the Makefile of this repository."""
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_help_has_a_line_for_each_target() -> None:
    shown = make("help")
    assert shown.returncode == 0
    listed = re.findall(r"^  ([a-z-]+) +(\S.*)", shown.stdout, re.M)
    assert {name for name, _ in listed} == TARGETS and len(listed) == len(TARGETS) > 15
    values = dict(re.findall(r"^  ([A-Z]+) +(\S.*)", shown.stdout, re.M))
    assert values["CUDA"] == "13" and values["OOD"].startswith("t-shirt trouser ")
    settable = MAKEFILE.partition("READY :=")[0]
    assert set(values) == set(re.findall(r"^([A-Z]+) +:= ", settable, re.M))
    assert all(len(f"{name:20}{text}") < 100 for name, text in listed)


def test_help_shows_values_as_they_are() -> None:
    assert "  DEMO              it's $ mine\n" in make("help", "DEMO=it's $$ mine").stdout


def test_without_a_target_it_sets_up() -> None:
    assert make("--dry-run", "VENV=no-such").stdout == make("-n", "VENV=no-such", "setup").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["AGRS=--help"], "unknown variable AGRS; there are ARGS (the options of shards"),
        (["train", "ARGS=x", "SEED=3"], "unknown variable SEED; there are ARGS"),
        (["demo", "ARGS=--epochs 3"], "ARGS is for shards preview train score board, not for demo"),
        (["ARGS=x"], "ARGS is for shards preview train score board, not for setup"),
    ],
)
def test_a_variable_that_nothing_reads_is_refused(arguments, told) -> None:
    refused = make("--dry-run", *arguments)
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr.count("\n") == 1 and told in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["AGRS=--help"], "; did you mean ARGS?"),
        (["demo", "SCR=x"], "; did you mean SRC?"),
        (["preview", "out=x"], "; did you mean OUT?"),
        (["demo", "ZZZZ=x"], " VENV"),
        (["demo", "A'B=x"], " VENV"),
    ],
)
def test_the_nearest_variable_is_told(arguments, meant) -> None:
    assert make("--dry-run", *arguments).stderr.endswith(f"{meant}.  Stop.\n")


@pytest.mark.parametrize("target", ["shards", "preview", "train", "score"])
def test_targets_that_take_options_pass_them_on(target) -> None:
    done = make("-n", target, "ARGS=--some option", "CUDA=12", "SHELL=/bin/sh")
    assert done.returncode == 0 and done.stdout.endswith(" --some option\n")


def test_variables_of_the_environment_are_not_of_the_makefile(monkeypatch) -> None:
    monkeypatch.setenv("AGRS", "x")
    assert make("help").returncode == 0
