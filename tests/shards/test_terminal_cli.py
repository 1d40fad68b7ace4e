"""Code that all command lines share: paths, messages, exit statuses and signals."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
import tyro

from shards.errors import UserError, few
from shards.terminal.cli import parse


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], ""),
        ([7], "7"),
        (["a", "b", "c", "d", "e"], "a, b, c, d, e"),
        (list(range(6)), "0, 1, 2, 3, 4 and 1 more"),
        (list(range(2005)), "0, 1, 2, 3, 4 and 2,000 more"),
    ],
)
def test_the_first_of_many_values(values: list[object], shown: str) -> None:
    assert few(values) == shown


def test_fewer_of_them() -> None:
    assert few(["one", "two", "three"], most=2) == "one, two and 1 more"


@dataclass(frozen=True)
class Inner:
    file: Path | None = None


@dataclass(frozen=True)
class Options:
    """A command with each kind of path that commands of the project have."""

    src: str | Path
    out: Path
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    more: tuple[Path, ...] = ()
    log_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    text: str = "x"
    inner: Inner = field(default_factory=Inner)


GIVEN = ["--src", "a", "--out", "b"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--src", "", "--out", "b"], "--src"),
        (["--src", "a", "--out="], "--out"),
        ([*GIVEN, "--more", "c", ""], "--more"),
        ([*GIVEN, "--log-dir", ""], "--log-dir"),
        ([*GIVEN, "--inner.file", ""], "--inner.file"),
        (["", *GIVEN], "folders"),
        (["c", "", *GIVEN], "folders"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(arguments: list[str], named: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(Options, arguments)
    assert str(caught.value) == f'{named} is an empty path ("." is the current folder)'


def test_other_paths_and_empty_texts_are_as_they_were() -> None:
    for dot in (".", "./"):
        found = parse(Options, [dot, "--src", dot, "--out", dot, "--text", "", "--log-dir", dot])
        assert found == Options(dot, Path("."), (Path("."),), (), Path("."), "")
        assert type(found.out) is type(Path("."))
