"""A mistyped command ends with one line: what is wrong, and a near correct name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from dali_pipes.negatives import parse_negatives
from eval.results.collect import grouped
from eval.sets.opening import EvalSets
from shards.errors import UserError
from shards.sets import SetsRequest, requests
from shards.sources.registry import open_source
from shards.terminal import cli
from shards.terminal.mistakes import did_you_mean
from train.recipes import parse_run


@dataclasses.dataclass
class Part:
    side_px: int = 3
    filter: Literal["bicubic", "bilinear"] = "bicubic"


@dataclasses.dataclass
class Command:
    """A command with fields of every kind."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    in_dist: Path
    """The in-distribution set. This help has words that look like --no-option."""
    count: int = 3
    pair: tuple[float, float] = (1.0, 2.0)
    channels: Literal[1, 3] | None = None
    most: int | None = None
    quick: bool = False
    part: Part = dataclasses.field(default_factory=Part)


MISTAKES = {
    "x --in-dist y --cuont 4": "unknown option --cuont; did you mean --count?",
    "x --in-dits y": "unknown option --in-dits; did you mean --in-dist?",
    "x --in-dist y --In_Dist=z": "unknown option --In_Dist; did you mean --in-dist?",
    "x --in-dist y --quik": "unknown option --quik; did you mean --quick?",
    "x --in-dist y --no-quik": "unknown option --no-quik; did you mean --no-quick?",
    "x --in-dist y --side-px 4": "unknown option --side-px; did you mean --part.side-px?",
    "x --in-dist y -count 4": "unknown option -count; did you mean --count?",
    "x --in-dist y --zzzz": "unknown option --zzzz; --help shows the options",
    "x --in-dist y --no-option": "unknown option --no-option",
    "x --in-dist y z": "'z' is neither an option nor the value of one",
    "x": "missing: --in-dist",
    "": "missing: FILE, --in-dist",
    "x --in-dist y --count four": "--count is four, expected INT",
    "x --in-dist y --most four": "--most is four, expected INT",
    "x --in-dist y --pair 1 b": "--pair is b, expected FLOAT FLOAT",
    "x --in-dist y --part.side_px=b": "--part.side-px is b, expected INT",
    "x --in-dist y --part.filter biliner": "--part.filter is biliner, expected bicubic, bilinear; "
    "did you mean bilinear?",
    "x --in-dist y --channels 2": "--channels is 2, expected ",
    "x --in-dist y --count": "",
    "x --in-dist y --pair 1": "",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line(line, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")  # A narrow terminal, on which tyro breaks every line.
    with pytest.raises(UserError) as error:
        cli.parse(Command, line.split())
    told = str(error.value)
    assert told.startswith(MISTAKES[line]) and "\n" not in told and len(told) < 120
    assert told.endswith("; --help explains them") or not told.startswith("missing")
    assert not {*"│╭─"} & {*told} and capsys.readouterr() == ("", "")
    if not MISTAKES[line]:  # The words are those of tyro, which differ between its versions.
        assert line.split()[3] in told and " expected " in told.lower()


def test_a_command_without_mistakes_is_read_and_help_is_help(capsys) -> None:
    line = "x --in-dist y --part.side_px 5 --no-quick --pair 1 -2"
    assert cli.parse(Command, line.split()) == Command(
        Path("x"), Path("y"), pair=(1.0, -2.0), part=Part(side_px=5)
    )
    with pytest.raises(SystemExit) as end:
        cli.parse(Command, ["--help"])
    assert end.value.code == 0 and "--part.side-px" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("atuo --in-dist x --out y", "'atuo' is no recipe; .*; did you mean auto\\?$"),
        ("", "no recipe is named; the first argument is one of auto, demo-cpu,"),
        ("--in-dist x auto", "'--in-dist' is no recipe; the first argument is one of auto"),
        ("demo-cpu --negatvies rot", "unknown option --negatvies; did you mean --negatives\\?$"),
        ("auto --lr-base 1", "unknown option --lr-base; did you mean --optim.lr-base\\?$"),
        ("demo-cpu --precision bf61", "--precision is bf61, expected .*; did you mean bf16\\?$"),
    ],
)
def test_a_mistake_in_a_run(line, told) -> None:
    with pytest.raises(UserError, match=f"^{told}"):
        parse_run(line.split())


def test_a_name_that_is_near() -> None:
    names = ["folder", "class-folders", "CIFAR10", "cifar100"]
    assert did_you_mean("foldr", names) == "; did you mean folder?"
    assert did_you_mean("Cifar1", names) == "; did you mean CIFAR10?"
    assert did_you_mean("cifar", names, most=2) == "; did you mean CIFAR10 or cifar100?"
    assert did_you_mean("texture", names) == did_you_mean("x", []) == ""


def test_names_of_the_project_are_suggested(tmp_path) -> None:
    ood = EvalSets({"in-dist-train": 1, "in-dist-test": 1, "cifar100": 1, "svhn": 1}, {})
    protocol = SetsRequest(protocol="fashion-footware", src=tmp_path)
    only = SetsRequest(protocol="fashion-footwear", src=tmp_path, only=("trowser",))
    for attempt, meant in (
        (lambda: open_source("foldr", tmp_path, "train"), "folder"),
        (lambda: open_source("cifar10", tmp_path, "tets"), "test"),
        (lambda: requests(protocol), "fashion-footwear"),
        (lambda: requests(only), "trouser"),
        (lambda: parse_negatives("rot-in+pixprem"), "pixperm"),
        (lambda: parse_negatives("combind"), "combined"),
        (lambda: parse_negatives("rot-inn"), "rot-in"),
        (lambda: parse_negatives("aux+rott-in"), "rot"),
        (lambda: grouped(("cifar-100",), ood), "cifar100"),
    ):
        with pytest.raises(UserError, match=f"; did you mean {meant}\\?$"):
            attempt()
