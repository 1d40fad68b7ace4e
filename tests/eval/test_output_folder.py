"""The output folder: complete or absent, and never in place of what someone else wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eval.results.output_folder import check_replaceable, complete_folder
from eval.score import main
from shards.errors import UserError


def write_scoring(out: Path, text: str) -> None:
    with complete_folder(out) as folder:
        (folder / "results.json").write_text(text)
        (folder / "scores").mkdir()
        (folder / "scores" / "a.csv").write_text(text)


def test_an_earlier_scoring_is_replaced_whole(tmp_path):
    out = tmp_path / "deep" / "out"
    write_scoring(out, "first")
    for name in ("table.md", "table.json"):  # the second one is from an earlier version
        (out / name).write_text("first")
    write_scoring(out, "second")
    assert (out / "results.json").read_text() == "second"
    assert sorted(p.name for p in out.iterdir()) == ["results.json", "scores"]
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_a_scoring_that_fails_leaves_the_earlier_one(tmp_path):
    out = tmp_path / "out"
    write_scoring(out, "first")
    with pytest.raises(RuntimeError), complete_folder(out) as folder:
        (folder / "results.json").write_text("second")
        assert (out / "results.json").read_text() == "first"
        raise RuntimeError
    assert (out / "results.json").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_replacement_that_fails_puts_the_earlier_one_back(tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_scoring(out, "first")
    rename = Path.rename

    def failing_rename(path, target):
        if ".partial-" in path.name and ".not-published-" not in str(target):
            raise OSError("no space")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing_rename)
    kept = tmp_path / f"out.not-published-{os.getpid()}"
    with pytest.raises(UserError, match=f"no space; what was made is in {kept}$"):
        write_scoring(out, "second")
    assert (out / "results.json").read_text() == "first"
    # What took hours is not thrown away.
    assert (kept / "results.json").read_text() == "second"
    assert {p.name for p in tmp_path.iterdir()} == {"out", kept.name}


def test_an_empty_folder_may_be_the_output(tmp_path):
    (tmp_path / "out").mkdir()
    write_scoring(tmp_path / "out", "first")
    assert (tmp_path / "out" / "results.json").read_text() == "first"


@pytest.mark.parametrize("held", [["notes.txt"], ["results.json", "notes.txt"], ["table.md"]])
def test_what_no_scoring_wrote_is_never_replaced(tmp_path, held):
    out = tmp_path / "out"
    out.mkdir()
    for name in held:
        (out / name).write_text("mine")
    with pytest.raises(UserError, match=f"^--out {out}: .*not replaced"):
        check_replaceable(out)
    kept = tmp_path / f"out.not-published-{os.getpid()}"
    with pytest.raises(UserError, match=f"not replaced; what was made is in {kept}$"):
        write_scoring(out, "new")
    assert sorted(p.name for p in out.iterdir()) == sorted(held)
    assert (kept / "results.json").read_text() == "new"


def test_a_file_is_no_output_folder(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="is not a folder"):
        write_scoring(tmp_path / "out", "new")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "deep" / "out", Path("/proc/out")):
        with pytest.raises(UserError, match=f"^--out {out}: {out.parents[-2]}.* cannot be written"):
            main(["--features", "no-such.npz", "--out", str(out)])
    check_replaceable(tmp_path / "new" / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
