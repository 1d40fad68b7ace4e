"""A set appears whole or not at all, one process builds it, and no shard is made twice."""

import errno
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shards.building import workplace as workplace_file
from shards.building.tally import Tally
from shards.building.workplace import Part, Workplace, remove_leftovers, workplace
from shards.errors import UserError
from shards.manifest import Shard
from tests.support.paths import ROOT
from tests.support.shard_cases import contents
from tests.support.waiting import LIMIT_S


def finish(work: Workplace, number: int) -> Part:
    """Write a finished shard with meaningless content and correct digests."""
    tar, idx = f"tar {number}".encode(), f"idx {number}".encode()
    (work.set_folder / f"s-{number}.tar").write_bytes(tar)
    (work.set_folder / f"s-{number}.idx").write_bytes(idx)
    digests = hashlib.sha256(tar).hexdigest(), hashlib.sha256(idx).hexdigest()
    rejects = [{"name": "b\n\udcff", "reason": "why"}]
    part = Part(
        Shard(f"s-{number}.tar", 1, len(tar), *digests),
        Tally(["a"], [(4, 6)], rejects, 5, 2**255),
    )
    work.finish(number, part)
    return part


def fail_with_two_shards(out: Path, identity: str = "one") -> None:
    with pytest.raises(RuntimeError), workplace(out, identity) as work:
        finish(work, 0)
        finish(work, 7)
        (work.set_folder / "s-8.tar").write_bytes(b"half")
        raise RuntimeError


def test_publishes_whole(tmp_path: Path) -> None:
    out = tmp_path / "new" / "set"
    with workplace(out, "one") as work:
        (work.set_folder / "file").write_text("x")
        assert not out.exists()
        assert work.finished() == set()
        (work.set_folder / "file").write_text("x")
    assert contents(out) == {"file": b"x"}
    assert os.listdir(out.parent) == ["set"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_before_a_shard_is_finished_leaves_nothing(tmp_path: Path, error) -> None:
    (tmp_path / "other").write_text("kept")
    with pytest.raises(error), workplace(tmp_path / "set", "one") as work:
        (work.set_folder / "file").write_text("x")
        raise error
    assert contents(tmp_path) == {"other": b"kept"}


def test_finished_shards_are_taken_over(tmp_path: Path) -> None:
    fail_with_two_shards(tmp_path / "set")
    assert os.listdir(tmp_path) == [".set.partial"]
    with workplace(tmp_path / "set", "one") as work:
        assert work.finished() == {0, 7}
        assert work.part(7) == finish(work, 9) or work.part(7).tally == work.part(9).tally
        assert work.part(7).shard.file == "s-7.tar"
        assert "s-8.tar" not in os.listdir(work.set_folder), "half a shard was left"
    assert contents(tmp_path / "set")["s-0.tar"] == b"tar 0"
    assert os.listdir(tmp_path) == ["set"]


def test_shards_of_another_identity_are_neither_taken_nor_lost(tmp_path: Path) -> None:
    fail_with_two_shards(tmp_path / "set")
    refused = pytest.raises(
        UserError, match=r"\.set\.partial: 2 finished shards of another request"
    )
    with refused, workplace(tmp_path / "set", "two"):
        pytest.fail("work was started")
    with workplace(tmp_path / "set", "one") as work:
        assert work.finished() == {0, 7}


def test_what_is_left_of_another_identity_without_a_finished_shard_goes(tmp_path: Path) -> None:
    (tmp_path / ".set.partial" / "set").mkdir(parents=True)
    (tmp_path / ".set.partial" / "set" / "half.tar").write_bytes(b"x")
    (tmp_path / ".set.partial" / "identity").write_text("two")
    with workplace(tmp_path / "set", "one") as work:
        assert os.listdir(work.set_folder) == []


@pytest.mark.parametrize("file", ["set/s-7.tar", "set/s-7.idx", "parts/00007.json"])
@pytest.mark.parametrize("change", ["cut", "flip", "remove"])
def test_a_shard_that_is_not_as_it_was_written_is_made_again(
    tmp_path: Path, file: str, change: str
) -> None:
    fail_with_two_shards(tmp_path / "set")
    path = tmp_path / ".set.partial" / file
    data = path.read_bytes()
    if change == "remove":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if change == "cut" else bytes([data[0] ^ 1]) + data[1:])
    with workplace(tmp_path / "set", "one") as work:
        assert work.finished() == {0}
        assert sorted(os.listdir(work.set_folder)) == ["s-0.idx", "s-0.tar"]
        assert os.listdir(work.parts_folder) == ["00000.json"]


def test_a_full_disk_is_a_users_error(tmp_path: Path) -> None:
    refused = pytest.raises(UserError, match="set: not built.*No space")
    with refused, workplace(tmp_path / "set", "one"):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_existing_output_is_refused_before_any_work(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "set"
    if kind == "folder":
        out.mkdir()
    elif kind == "file":
        out.write_text("x")
    else:
        out.symlink_to("nowhere")
    with pytest.raises(UserError, match="set: exists"), workplace(out, "one"):
        pytest.fail("work was started")
    assert os.listdir(tmp_path) == ["set"]


def test_output_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "set"
    with pytest.raises(UserError, match="exists"), workplace(out, "one") as work:
        (work.set_folder / "file").write_text("mine")
        out.mkdir()
        (out / "file").write_text("theirs")
    assert contents(out) == {"file": b"theirs"}
    assert os.listdir(tmp_path) == ["set"]


def test_the_second_builder_is_refused_and_the_first_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(workplace_file, "LOCK_WAIT_S", 0.1)
    out = tmp_path / "set"
    with workplace(out, "one") as first:
        (first.set_folder / "file").write_text("first")
        who = f"process {os.getpid()} on {socket.gethostname()}"
        refused = pytest.raises(UserError, match=f"^{out} is being built by {who}$")
        with refused, workplace(out, "two"):
            pytest.fail("work was started")
        assert contents(first.set_folder) == {"file": b"first"}
    assert contents(out) == {"file": b"first"}


KILLED = """
import os, signal, sys
from pathlib import Path
from shards.building import workplace
from tests.shards.test_workplace import finish
if sys.argv[2] == "after the rename":
    workplace.shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
with workplace.workplace(Path(sys.argv[1]), "one") as work:
    finish(work, 0)
    if sys.argv[2] == "at work":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["at work", "after the rename"])
def test_a_killed_builder(tmp_path: Path, moment: str) -> None:
    out = tmp_path / "set"
    killed = subprocess.run([sys.executable, "-c", KILLED, out, moment], cwd=ROOT, timeout=LIMIT_S)
    assert killed.returncode == -9
    if moment == "at work":
        assert os.listdir(tmp_path) == [".set.partial"]
        with workplace(out, "one") as work:
            assert work.finished() == {0}
    else:
        assert sorted(os.listdir(tmp_path)) == [".set.partial", "set"]
        remove_leftovers(out)
    assert os.listdir(tmp_path) == ["set"]
    assert set(contents(out)) == {"s-0.tar", "s-0.idx"}


def test_leftovers_are_removed_only_beside_a_finished_set(tmp_path: Path) -> None:
    fail_with_two_shards(tmp_path / "set")
    remove_leftovers(tmp_path / "set")
    assert os.listdir(tmp_path) == [".set.partial"]
    with workplace(tmp_path / "set", "one"):
        (tmp_path / "set").mkdir()
        remove_leftovers(tmp_path / "set")
        assert (tmp_path / ".set.partial").exists(), "removed under a running build"
        (tmp_path / "set").rmdir()


def test_parts_that_cannot_be_removed_keep_their_identity(tmp_path: Path, monkeypatch) -> None:
    """Without the identity, the next build would take them for shards of another request."""
    unlink = os.unlink

    def failing(path, *arguments, **options) -> None:
        if str(path).endswith(".json"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        unlink(path, *arguments, **options)

    out = tmp_path / "set"
    with monkeypatch.context() as patched, workplace(out, "one") as work:
        finish(work, 0)
        patched.setattr(os, "unlink", failing)
    shutil.rmtree(out)
    with workplace(out, "one") as work:
        assert work.finished() == set(), "its files were removed with the set"
        finish(work, 0)
    assert os.listdir(tmp_path) == ["set"]
