"""Printing to terminals that lack characters, to streams that are closed, and to nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from shards.build import build
from shards.building.build_plan import BuildRequest
from tests.support.paths import ROOT
from tests.support.shard_cases import random_images
from tests.support.waiting import LIMIT_S

SAYS = """
import sys
from pathlib import Path
from shards.terminal import cli
from shards.disk.publish import write_new_file
def main():
    {}
cli.run(main)
"""
TABLE = """
    from rich.table import Table
    from shards.terminal.console import Terminal
    table = Table("a")
    table.add_row("\\u732b")
    Terminal().print(table)
"""


def command(
    *arguments: str | Path, stdout: int = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess:
    """Run a command of this Python from the root of the repository."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env={**os.environ, **environment},
        stdout=stdout, stderr=subprocess.PIPE, timeout=LIMIT_S,
    )  # fmt: skip


def to_nobody(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a command whose stdout is closed by its reader before it starts."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return command(*arguments, stdout=writer, **environment)
    finally:
        os.close(writer)


@pytest.fixture(scope="module")
def named_set(tmp_path_factory) -> Path:
    """A set whose path has characters that Latin-1 lacks."""
    folder = tmp_path_factory.mktemp("猫")
    np.save(folder / "x.npy", random_images(4))
    out = folder / "猫 → 犬"
    build(BuildRequest("npy", folder / "x.npy", 6, out, name="cats"))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize("module", ["shards.info", "shards.verify"])
def test_what_a_terminal_lacks_is_an_escape(named_set, module, encoding) -> None:
    shown = command("-m", module, named_set, PYTHONIOENCODING=encoding)
    assert shown.returncode == 0 and not shown.stderr
    assert "\\u732b" in "".join(shown.stdout.decode(encoding).split())


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["shards.build", "--help"], ["shards.sets"]])
def test_help_and_tables_are_shown_in_ascii(arguments: Sequence[str]) -> None:
    shown = command("-m", *arguments, PYTHONIOENCODING="ascii")
    assert shown.returncode == 0 and not shown.stderr
    text = shown.stdout.decode("ascii")
    # Frames are drawn with ASCII characters, not with escapes.
    assert "\\u" not in text and "---" in text


def test_a_table_in_ascii_has_escapes_for_names_alone() -> None:
    shown = command("-c", SAYS.format(TABLE), PYTHONIOENCODING="ascii")
    assert shown.returncode == 0 and shown.stdout.decode("ascii").count("\\u") == 1


@pytest.mark.parametrize(
    "body",
    [
        "print('a line')",
        "print('a line', flush=True)",
        "print('many\\n' * 100_000)",
        TABLE,
        "[print('x' * 10, flush=True) for _ in range(3)]; sys.exit(0)",
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_goes_away_is_no_error(body: str, unbuffered: str) -> None:
    ended = to_nobody("-c", SAYS.format(body), PYTHONUNBUFFERED=unbuffered)
    assert (ended.returncode, ended.stderr) == (128 + 13, b"")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], []])
def test_commands_end_quietly(arguments: Sequence[str]) -> None:
    ended = to_nobody("-m", "shards.sets", *arguments)
    assert ended.returncode in (0, 128 + 13) and not ended.stderr


@pytest.mark.slow
def test_what_a_command_has_made_is_whole_when_nobody_reads(tmp_path) -> None:
    np.save(tmp_path / "x.npy", random_images(4))
    arguments = ["--source", "npy", "--src", tmp_path / "x.npy", "--size-px", "6"]
    ended = to_nobody("-m", "shards.build", *arguments, "--out", tmp_path / "set")
    assert (ended.returncode, ended.stderr) == (128 + 13, b"")
    assert command("-m", "shards.verify", tmp_path / "set").returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["set", "x.npy"]


def test_a_full_disk_behind_stdout_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        script = SAYS.format("print('a line')")
        ended = command("-c", script, stdout=full.fileno(), PYTHONUNBUFFERED="")
    assert ended.returncode == 2
    assert ended.stderr == b"error: [Errno 28] No space left on device: 'stdout'\n"


def test_what_is_printed_is_not_written_into_a_file_that_has_its_number(tmp_path) -> None:
    """If stdout is closed, the next file that is opened would get its number."""
    body = f"file = open({str(tmp_path / 'file')!r}, 'w'); print(1); import os"
    body += "; os.write(1, b'x'); os.write(2, b'x')"
    script = 'exec "$0" -c "$1" <&- >&- 2>&-'
    ended = subprocess.run(
        ["sh", "-c", script, sys.executable, SAYS.format(body)], cwd=ROOT, timeout=LIMIT_S
    )
    assert ended.returncode == 0 and (tmp_path / "file").read_text() == ""
